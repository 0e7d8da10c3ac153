import type { QemuOption } from './option.ts';
import { sharedAddress } from './pci-address.ts';
import type { FdNumber } from './plan-fds.ts';
import type { QemuInput } from './qemu-input.ts';

/** Descriptors of the ring; as many as QEMU takes. */
const QUEUE_SIZE = 1024;

/**
 * Shared directories: each is a virtiofsd that has the guest's memory mapped, which `planMemory` shares, and is spoken to by
 * a socket that is connected already.
 */
export function planShared({ spec }: QemuInput, fd: FdNumber): QemuOption[] {
  return spec.shared.flatMap(({ tag }, index): QemuOption[] => [
    {
      flag: '-chardev',
      head: 'socket',
      keys: { id: `shared-${index}`, fd: fd(`shared-${index}`), server: false },
    },
    {
      flag: '-device',
      json: {
        driver: 'vhost-user-fs-pci',
        id: `shared${index}`,
        chardev: `shared-${index}`,
        tag,
        'queue-size': QUEUE_SIZE,
        ...sharedAddress(index),
      },
    },
  ]);
}
