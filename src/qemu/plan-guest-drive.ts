import { VmError } from '../core/errors.ts';
import { diskDevice } from './disk-device.ts';
import { diskErrors } from './disk-errors.ts';
import type { QemuOption } from './option.ts';
import { fdSet, fdSetPath } from './plan-disk.ts';
import type { FdNumber } from './plan-fds.ts';
import type { QemuInput } from './qemu-input.ts';

/** The drive that the guest configures itself from: the last disk, which can only be read. */
export function planGuestDrive({ spec, guestDrive, nics, aio }: QemuInput, fd: FdNumber): QemuOption[] {
  if (!guestDrive) return [];
  if (spec.machine === 'microvm' && nics.length > 4) {
    throw new VmError(
      'InvalidArgument',
      'machine "microvm" has no place for a guest data drive beside five network cards; use machine "q35", or set vmshim.io/guest-data to "none"',
    );
  }
  return [
    fdSet('guest-drive', fd),
    {
      flag: '-blockdev',
      json: {
        driver: 'file',
        'node-name': 'guest-drive-file',
        filename: fdSetPath('guest-drive', fd),
        aio,
        'read-only': true,
      },
    },
    {
      flag: '-blockdev',
      json: { driver: 'raw', 'node-name': 'guest-drive', file: 'guest-drive-file', 'read-only': true },
    },
    {
      flag: '-device',
      // No bootindex: with -boot strict=on firmware then never runs its boot sector, which would end the boot.
      json: diskDevice(spec, 'guestDrive', {
        id: 'disk-guest-drive',
        drive: 'guest-drive',
        serial: 'guest-data',
        // Nothing writes to it.
        rerror: diskErrors(spec.hardware.onIoError).rerror,
      }),
    },
  ];
}
