import { VmError } from '../core/errors.ts';
import type { QemuOption } from './option.ts';
import type { QemuInput } from './qemu-input.ts';
import { fdSet, fdSetPath } from './plan-disk.ts';
import type { FdNumber } from './plan-fds.ts';

/** Firmware, and the kernel where the pod brings its own. */
export function planBoot(input: QemuInput, fd: FdNumber): QemuOption[] {
  refuseWhatMicrovmCannot(input);
  return [...firmware(input, fd), ...bootOrder(input), ...kernel(input, fd)];
}

function refuseWhatMicrovmCannot({ spec, firmware }: QemuInput): void {
  if (spec.machine !== 'microvm') return;
  if (spec.boot.kind === 'disk') {
    throw new VmError(
      'InvalidArgument',
      'machine "microvm" boots a kernel only; give the pod a kernel or use machine "q35"',
    );
  }
  if (firmware.kind !== 'bios') {
    throw new VmError(
      'InvalidArgument',
      `firmware "${firmware.kind}" does not run on machine "microvm"; use firmware "bios" or machine "q35"`,
    );
  }
}

function firmware(input: QemuInput, fd: FdNumber): QemuOption[] {
  if (input.firmware.kind === 'bios') return [];
  return [
    // The code is a file of the distribution that all may read; one path for all VMs, nothing of a user's in it.
    {
      flag: '-blockdev',
      json: {
        driver: 'file',
        'node-name': 'firmware-code-file',
        filename: input.firmware.codePath,
        'read-only': true,
      },
    },
    {
      flag: '-blockdev',
      json: { driver: 'raw', 'node-name': 'firmware-code', file: 'firmware-code-file', 'read-only': true },
    },
    fdSet('firmware-vars', fd),
    {
      flag: '-blockdev',
      json: { driver: 'file', 'node-name': 'firmware-vars-file', filename: fdSetPath('firmware-vars', fd) },
    },
    { flag: '-blockdev', json: { driver: 'raw', 'node-name': 'firmware-vars', file: 'firmware-vars-file' } },
    ...(input.firmware.kind === 'uefi-secure' ? SECURE_FLASH : []),
  ];
}

/** The variables are written by code in System Management Mode only; waking from S3 would lead around it. */
const SECURE_FLASH: readonly QemuOption[] = [
  { flag: '-global', keys: { driver: 'cfi.pflash01', property: 'secure', value: true } },
  { flag: '-global', keys: { driver: 'ICH9-LPC', property: 'disable_s3', value: 1 } },
];

function bootOrder(input: QemuInput): QemuOption[] {
  // Only devices with a bootindex: firmware neither tries the network nor a data disk's boot sector.
  return input.spec.machine === 'q35' ? [{ flag: '-boot', keys: { strict: true } }] : [];
}

function kernel(input: QemuInput, fd: FdNumber): QemuOption[] {
  const { boot } = input.spec;
  if (boot.kind === 'disk') return [];
  return [
    // The kernel's loader knows no descriptor sets. This path opens the inode anew, whatever directory it is in.
    { flag: '-kernel', text: `/proc/self/fd/${fd('kernel')}` },
    ...(boot.initrd === undefined
      ? []
      : [{ flag: '-initrd', text: `/proc/self/fd/${fd('initrd')}` } as const]),
    { flag: '-append', text: boot.cmdline },
  ];
}
