import { diskBus } from './disk-device.ts';
import { ioThreadHelps } from './io-thread.ts';
import type { QemuOption } from './option.ts';
import { pciAddress } from './pci-address.ts';
import type { QemuInput } from './qemu-input.ts';

/** Keeps the root disk's I/O off QEMU's main loop, where QMP and the console live. */
export const IO_THREAD = { flag: '-object', json: { 'qom-type': 'iothread', id: 'iothread-root' } } as const;

/** What disks and the pointer hang on, as far as this VM needs it; virtio's own disks hang on nothing. */
export function planControllers(input: QemuInput): QemuOption[] {
  const { spec, rootDisk, guestDrive } = input;
  const buses = new Set([
    ...(rootDisk === undefined ? [] : [diskBus(spec, 'rootDisk')]),
    ...(guestDrive ? [diskBus(spec, 'guestDrive')] : []),
    ...(spec.hardware.video === 'none' ? [] : ['usb']),
  ]);
  const scsi = {
    driver: 'virtio-scsi-pci',
    id: 'scsi',
    ...(ioThreadHelps(input) && { iothread: IO_THREAD.json.id }),
    ...pciAddress('scsi'),
  };
  return [
    ...((buses.has('scsi') && ioThreadHelps(input)) || hasIoThread(input) ? [IO_THREAD] : []),
    ...(buses.has('scsi') ? [{ flag: '-device', json: scsi } as const] : []),
    ...(buses.has('sata') ? [controller('ich9-ahci', 'sata')] : []),
    // xHCI has a driver in Windows since 8 and in every Linux.
    ...(buses.has('usb') ? [controller('qemu-xhci', 'usb')] : []),
  ];
}

/** Of the root disk where it hangs on no controller. */
export function hasIoThread(input: QemuInput): boolean {
  const { spec, rootDisk } = input;
  return rootDisk !== undefined && diskBus(spec, 'rootDisk') === 'virtio' && ioThreadHelps(input);
}

function controller(driver: string, id: 'sata' | 'usb'): QemuOption {
  return { flag: '-device', json: { driver, id, ...pciAddress(id) } };
}
