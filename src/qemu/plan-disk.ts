import { diskDevice } from './disk-device.ts';
import { diskErrors } from './disk-errors.ts';
import type { QemuOption } from './option.ts';
import type { JsonObject } from './qmp-codec.ts';
import { ROOT_BOOT_ORDER } from '../core/disk-spec.ts';
import { bootIndex } from './boot-index.ts';
import { hasIoThread, IO_THREAD } from './plan-controllers.ts';
import type { QemuInput, RootDevice, RootOverlay } from './qemu-input.ts';
import type { FdNumber, FdRole } from './plan-fds.ts';

/** The root disk: an overlay or a part of a block device. */
export function planDisk(input: QemuInput, fd: FdNumber): QemuOption[] {
  const disk = input.rootDisk;
  if (disk === undefined) return [];
  return [
    ...(disk.format === 'raw' ? deviceNodes(disk, input.aio, fd) : overlayNodes(disk, input.aio, fd)),
    {
      flag: '-device',
      json: diskDevice(input.spec, 'rootDisk', {
        id: 'disk-root',
        drive: 'root',
        serial: 'root',
        ...(hasIoThread(input) && { iothread: IO_THREAD.json.id }),
        // Always set, or SeaBIOS boots whatever it meets first. 0 belongs to the option ROM that loads -kernel.
        bootindex: bootIndex(input, ROOT_BOOT_ORDER),
        ...diskErrors(input.spec.hardware.onIoError),
      }),
    },
  ];
}

/**
 * A qcow2 overlay, over the image where there is one. The node below is always named, or named absent, so that no path
 * from a header is ever followed.
 */
function overlayNodes(disk: RootOverlay, aio: QemuInput['aio'], fd: FdNumber): QemuOption[] {
  return [
    ...(disk.base === undefined ? [] : baseNodes(disk.base.format, aio, fd)),
    fdSet('root-overlay', fd),
    {
      flag: '-blockdev',
      json: {
        driver: 'file',
        'node-name': 'root-file',
        filename: fdSetPath('root-overlay', fd),
        aio,
        discard: 'unmap',
        cache: cacheMode(disk),
      },
    },
    {
      flag: '-blockdev',
      json: {
        driver: disk.format,
        'node-name': 'root',
        file: 'root-file',
        backing: disk.base === undefined ? null : 'root-base',
        discard: 'unmap',
        'detect-zeroes': 'unmap',
        cache: cacheMode(disk),
      },
    },
  ];
}

/** Past the host's page cache: the device is this guest's alone, and who has it next has to find everything on it. */
function deviceNodes(disk: RootDevice, aio: QemuInput['aio'], fd: FdNumber): QemuOption[] {
  const cache = { direct: true };
  return [
    fdSet('root-device', fd),
    {
      flag: '-blockdev',
      json: {
        driver: 'host_device',
        'node-name': 'root-file',
        filename: fdSetPath('root-device', fd),
        aio,
        discard: 'unmap',
        cache,
      },
    },
    {
      flag: '-blockdev',
      json: {
        driver: 'raw',
        'node-name': 'root',
        file: 'root-file',
        offset: disk.offset,
        size: disk.size,
        discard: 'unmap',
        'detect-zeroes': 'unmap',
        cache,
      },
    },
  ];
}

/** Buffered on purpose: all VMs of an image share its pages in the host's cache. */
function baseNodes(format: 'qcow2' | 'raw', aio: QemuInput['aio'], fd: FdNumber): QemuOption[] {
  return [
    fdSet('root-base', fd),
    {
      flag: '-blockdev',
      json: {
        driver: 'file',
        'node-name': 'root-base-file',
        filename: fdSetPath('root-base', fd),
        aio,
        'read-only': true,
      },
    },
    {
      flag: '-blockdev',
      json: {
        driver: format,
        'node-name': 'root-base',
        file: 'root-base-file',
        ...(format === 'qcow2' && { backing: null }),
        'read-only': true,
      },
    },
  ];
}

function cacheMode(disk: RootOverlay): JsonObject {
  return { direct: disk.cache === 'none' };
}

/** A descriptor that -blockdev can open under a name; the set has the descriptor's own number. */
export function fdSet(role: FdRole, fd: FdNumber): QemuOption {
  return { flag: '-add-fd', keys: { fd: fd(role), set: fd(role), opaque: role } };
}

export function fdSetPath(role: FdRole, fd: FdNumber): string {
  return `/dev/fdset/${fd(role)}`;
}
