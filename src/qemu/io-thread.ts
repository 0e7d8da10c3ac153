import type { QemuInput } from './qemu-input.ts';

/**
 * Whether a thread of its own helps a disk of virtio's. It keeps the disk's I/O off QEMU's main loop; but its interrupts reach
 * the guest without the main loop by KVM's irqfd alone. Under TCG each request would wake one thread more, for nothing.
 * Source: QEMU hw/block/dataplane/virtio-blk.c, and virtio_pci_set_guest_notifiers in hw/virtio/virtio-pci.c.
 */
export function ioThreadHelps({ accel }: Pick<QemuInput, 'accel'>): boolean {
  return accel === 'kvm';
}
