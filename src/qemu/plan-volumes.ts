import { VmError } from '../core/errors.ts';
import { bootIndex } from './boot-index.ts';
import { indexOnBus } from './device-place.ts';
import { diskErrors } from './disk-errors.ts';
import { ioThreadHelps } from './io-thread.ts';
import type { QemuOption } from './option.ts';
import { pciAddress, ROW_PLACES, volumeAddress } from './pci-address.ts';
import { fdSet, fdSetPath } from './plan-disk.ts';
import type { FdNumber } from './plan-fds.ts';
import type { LocalVolume, QemuInput, RbdVolume, Volume } from './qemu-input.ts';
import type { JsonObject } from './qmp-codec.ts';

/** Ports of ICH9's AHCI controller. */
const SATA_PORTS = 6;
/** As many as QEMU's xHCI controller has at most. */
const USB_PORTS = 15;
/** Targets of a virtio-scsi controller; 256 would be the limit, but a guest scans them one by one. */
const SCSI_TARGETS = 64;
/** More queues than this serve nobody. */
const MAX_QUEUES = 64;

/** Keeps their I/O off QEMU's main loop and out of the root disk's way. */
const IO_THREAD = { flag: '-object', json: { 'qom-type': 'iothread', id: 'iothread-volumes' } } as const;

/**
 * All disks beside the root disk. Controllers are theirs alone, so that their addresses do not depend on the root disk's bus.
 * Each is a raw image or device: QEMU never looks for another format in what a guest may have written.
 * @throws VmError InvalidArgument for more disks than there are places.
 */
export function planVolumes(input: QemuInput, fd: FdNumber): QemuOption[] {
  const { volumes } = input;
  if (volumes.length === 0) return [];
  const buses = new Set(volumes.map(({ bus }) => bus));
  return [
    ...((buses.has('virtio') || buses.has('scsi')) && ioThreadHelps(input) ? [IO_THREAD] : []),
    ...(buses.has('scsi') ? [device(scsiController(input))] : []),
    ...(buses.has('sata')
      ? [device({ driver: 'ich9-ahci', id: 'volumes-sata', ...pciAddress('volumesSata') })]
      : []),
    ...(buses.has('usb')
      ? [
          device({
            driver: 'qemu-xhci',
            id: 'volumes-usb',
            p2: USB_PORTS,
            p3: USB_PORTS,
            ...pciAddress('volumesUsb'),
          }),
        ]
      : []),
    ...volumes.flatMap((volume) => [
      ...nodes(volume, fd),
      device({
        ...attach(input, volume, indexOnBus(volumes, volume)),
        id: `volume-${volume.name}`,
        drive: `volume-${volume.name}`,
        serial: volume.serial,
        ...(volume.boot !== undefined && { bootindex: bootIndex(input, volume.boot) }),
        ...errors(input, volume),
      }),
    ]),
  ];
}

function nodes(volume: Volume, fd: FdNumber): QemuOption[] {
  const { name, readOnly } = volume;
  const role = `volume-${name}` as const;
  const discard = volume.discard && !readOnly;
  const common = {
    ...(readOnly && { 'read-only': true }),
    ...(discard && { discard: 'unmap' }),
    cache: { direct: volume.cache === 'none' },
  };
  return [
    ...(volume.backend === 'rbd' ? rbdNode(volume, common, fd) : fileNode(volume, common, fd)),
    {
      flag: '-blockdev',
      json: {
        driver: 'raw',
        'node-name': role,
        file: fileNodeName(name),
        ...common,
        ...(discard && { 'detect-zeroes': 'unmap' }),
      },
    },
  ];
}

function fileNode({ name, backend, aio }: LocalVolume, common: JsonObject, fd: FdNumber): QemuOption[] {
  const role = `volume-${name}` as const;
  return [
    fdSet(role, fd),
    {
      flag: '-blockdev',
      json: {
        driver: backend,
        'node-name': fileNodeName(name),
        filename: fdSetPath(role, fd),
        aio,
        ...common,
      },
    },
  ];
}

/**
 * librbd opens its image before QEMU takes commands. Its configuration is a descriptor, so no file of the node is read; so
 * is the key, which otherwise anybody could read in the list of processes. Source: BlockdevOptionsRbd of QEMU's QAPI.
 */
function rbdNode({ name, rbd }: RbdVolume, common: JsonObject, fd: FdNumber): QemuOption[] {
  const { pool, namespace, image, snapshot, user, monitors } = rbd;
  const key = `rbd-key-${name}` as const;
  return [
    { flag: '-object', json: { 'qom-type': 'secret', id: key, format: 'base64', file: ownFdPath(fd(key)) } },
    {
      flag: '-blockdev',
      json: {
        driver: 'rbd',
        'node-name': fileNodeName(name),
        pool,
        ...(namespace !== undefined && { namespace }),
        image,
        ...(snapshot !== undefined && { snapshot }),
        conf: ownFdPath(fd(`rbd-conf-${name}`)),
        server: monitors.map(({ host, port }) => ({ host, port })),
        user,
        'auth-client-required': ['cephx'],
        'key-secret': key,
        ...common,
      },
    },
  ];
}

/** The node below a disk's own; what QEMU says of opening it names this. */
export function fileNodeName(name: string): string {
  return `file-${name}`;
}

/** What others open by name may be a descriptor all the same; it is opened anew, by QEMU's user. */
function ownFdPath(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/** Nothing writes to a disk that is only read. */
function errors({ spec }: QemuInput, { readOnly }: Volume): JsonObject {
  const { rerror, werror } = diskErrors(spec.hardware.onIoError);
  return readOnly ? { rerror } : { rerror, werror };
}

function scsiController(input: QemuInput): JsonObject {
  return {
    driver: 'virtio-scsi-pci',
    id: 'volumes-scsi',
    ...ioThread(input),
    num_queues: queues(input.spec.vcpus),
    ...pciAddress('volumesScsi'),
  };
}

function ioThread(input: QemuInput): JsonObject {
  return ioThreadHelps(input) ? { iothread: IO_THREAD.json.id } : {};
}

/** The device's driver, where it is plugged in, and what only this driver has. */
function attach(input: QemuInput, volume: Volume, place: number): JsonObject {
  const { bus, row, serial } = volume;
  const cdrom = volume.device === 'cdrom';
  const blocks = cdrom ? {} : blockSizes(volume);
  switch (bus) {
    case 'virtio':
      expectRoom(place, ROW_PLACES, 'of its kind on the bus "virtio"', 'give some of them the bus "scsi"');
      return {
        driver: 'virtio-blk-pci',
        ...volumeAddress(row, place),
        ...ioThread(input),
        'num-queues': queues(input.spec.vcpus),
        ...blocks,
      };
    case 'scsi':
      expectRoom(place, SCSI_TARGETS, 'on the bus "scsi"', 'give some of them the bus "virtio"');
      return {
        driver: cdrom ? 'scsi-cd' : 'scsi-hd',
        bus: 'volumes-scsi.0',
        'scsi-id': place,
        lun: 0,
        // What Linux makes the name in /dev/disk/by-id of.
        device_id: serial,
        ...blocks,
      };
    case 'sata':
      expectRoom(place, SATA_PORTS, 'on the bus "sata"', 'give some of them the bus "scsi"');
      // Its sectors have 512 bytes for QEMU, whatever the device's have.
      return { driver: cdrom ? 'ide-cd' : 'ide-hd', bus: `volumes-sata.${place}` };
    case 'usb':
      expectRoom(place, USB_PORTS, 'on the bus "usb"', 'give some of them the bus "scsi"');
      return { driver: 'usb-storage', bus: 'volumes-usb.0', port: String(place + 1) };
  }
}

function blockSizes({ blockSize }: Volume): JsonObject {
  if (blockSize === undefined) return {};
  return { logical_block_size: blockSize.logical, physical_block_size: blockSize.physical };
}

function queues(vcpus: number): number {
  return Math.min(vcpus, MAX_QUEUES);
}

function expectRoom(place: number, places: number, what: string, remedy: string): void {
  if (place < places) return;
  throw new VmError(
    'InvalidArgument',
    `the VM has more than the ${places} disks ${what} that it can have; ${remedy}`,
  );
}

function device(json: JsonObject): QemuOption {
  return { flag: '-device', json };
}
