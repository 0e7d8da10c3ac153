import { VmError } from '../core/errors.ts';
import type { RootPlace } from '../core/vm-spec.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import { errnoName } from '../host/linux-errno.ts';
import { openFlags } from '../host/open-flags.ts';
import { describeBase, readBaseIdentity, renderBaseName } from './base-identity.ts';
import { fillDevice } from './fill-device.ts';
import type { ImageDisk } from './image-disk.ts';
import { quoteName } from './image-file.ts';
import { isZero, MARK_AREA, MARK_BYTES, parseMarks, type RootMark } from './root-mark.ts';

const { O_RDWR, O_EXCL, O_NONBLOCK } = openFlags;
const SECTOR = 512;

export type DevicePlace = Extract<RootPlace, { kind: 'device' }>;

/** An opened block volume. */
export interface BlockDevice {
  /** For reading and writing, claimed against every other claim on this node; whoever asked for it closes it. */
  readonly fd: OwnedFd;
  /** Such as `/dev/sdb`. */
  readonly node: string;
  readonly bytes: number;
}

/** The part of a block volume that the guest sees, in bytes. */
export interface RootDevice {
  readonly offset: number;
  readonly size: number;
  readonly change: 'filled' | 'kept' | 'adopted';
}

export interface FillRequest {
  /** `VmSpec.rootDiskBytes`: what the guest is to see at least. */
  readonly rootDiskBytes: number | undefined;
  readonly qemuImg: string;
  /** See `Filling`. */
  readonly pieceBytes?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Opens a block volume by its number, since the OCI spec says no more. The open is exclusive: the kernel refuses it while
 * the device is mounted, part of another one, or some other VM's, and QEMU inherits the claim. Source: open(2), O_EXCL.
 * @throws VmError FailedPrecondition when it is not there, read-only, empty or in use.
 */
export function openRootDevice(host: Host, { path, major, minor }: DevicePlace): BlockDevice {
  const refuse = (what: string, remedy: string, cause?: unknown): VmError =>
    new VmError(
      'FailedPrecondition',
      `the block volume at ${quoteName(path)} (device ${major}:${minor}) ${what}; ${remedy}`,
      { cause },
    );
  const sysfs = `/sys/dev/block/${major}:${minor}`;
  let name: string | undefined;
  let bytes: number;
  try {
    name = /^DEVNAME=(.+)$/m.exec(host.readText(`${sysfs}/uevent`))?.[1];
    bytes = Number(host.readText(`${sysfs}/size`)) * SECTOR;
    if (host.readText(`${sysfs}/ro`).trim() !== '0')
      throw refuse('is read-only', 'the root disk is written to: give a volume that can be');
  } catch (cause) {
    if (!VmError.is(cause, 'NotFound')) throw cause;
    throw refuse('is not there', 'find out why the volume is not attached to this node', cause);
  }
  if (name === undefined) throw refuse('has no name', 'find out what the driver of the volume is missing');
  if (bytes === 0) throw refuse('has no bytes', 'find out why the volume is not attached');
  const node = `/dev/${name}`;
  using open = new DisposableStack();
  let fd: OwnedFd;
  try {
    fd = open.use(host.open(node, O_RDWR | O_EXCL | O_NONBLOCK));
  } catch (cause) {
    if (errnoName(cause) !== 'EBUSY') throw cause;
    throw refuse(
      `is in use: ${node} is mounted, part of another device, or the disk of another VM`,
      'stop what uses it',
      cause,
    );
  }
  const info = host.inspectFd(fd.fd);
  if (info.kind !== 'block-device' || info.device.major !== major || info.device.minor !== minor)
    throw refuse(`is not what "${node}" names`, 'find out who changed /dev');
  open.move();
  return { fd, node, bytes };
}

/**
 * The root disk on a block volume: a blank one is filled from the image, once; a half-filled one, which no guest has seen,
 * is filled on; a filled one is never written by us again.
 * @throws VmError FailedPrecondition for one that holds something else, was filled from another image, or is too small.
 */
export async function ensureRootDevice(
  host: Host,
  device: Pick<BlockDevice, 'fd' | 'node' | 'bytes'>,
  image: ImageDisk,
  request: FillRequest,
): Promise<RootDevice> {
  const { fd, node, bytes } = device;
  const offset = MARK_AREA;
  const size = Math.floor((bytes - MARK_AREA) / SECTOR) * SECTOR;
  expectRoom(device, size, image, request.rootDiskBytes);
  const offered = { identity: readBaseIdentity(host, image), format: image.format };
  const fresh: RootMark = { ...offered, state: 'filling', virtualSize: image.virtualSize, done: 0 };
  const found = parseMarks(host.readBytes(fd.fd, 0, MARK_BYTES), `block volume ${node}`);
  if (found.kind === 'mark') {
    const { mark, sequence } = found;
    const same =
      renderBaseName(mark.identity) === renderBaseName(offered.identity) && mark.format === image.format;
    if (mark.state === 'filled') {
      if (same) return { offset, size, change: 'kept' };
      throw new VmError(
        'FailedPrecondition',
        `block volume ${node} was filled from another image (${describeBase(mark.identity)}) than ${quoteName(image.path)} of this one (${describeBase(offered.identity)}); give the earlier image back or set vmshim.io/root-fill to "never" to keep the guest’s data, or give a new volume to begin with a fresh disk`,
      );
    }
    await fillDevice(host, device, image, { ...request, from: same ? mark : fresh, sequence });
    return { offset, size, change: 'filled' };
  }
  if (found.kind === 'none' && !isBlank(host, device)) {
    throw new VmError(
      'FailedPrecondition',
      `block volume ${node} for the root disk holds data that is not ours; set vmshim.io/root-fill to "never" to boot it as it is, or wipe it (wipefs -a, blkdiscard or a new volume) to have it filled from the image`,
    );
  }
  await fillDevice(host, device, image, { ...request, from: fresh, sequence: -1 });
  return { offset, size, change: 'filled' };
}

/**
 * A volume that is booted as it is: what we filled once begins behind our mark, everything else at its front.
 * @throws VmError FailedPrecondition for one that was never filled to its end.
 */
export function adoptRootDevice(host: Host, { fd, node, bytes }: BlockDevice): RootDevice {
  const found = parseMarks(host.readBytes(fd.fd, 0, MARK_BYTES), `block volume ${node}`);
  if (found.kind === 'none') return { offset: 0, size: bytes, change: 'adopted' };
  if (found.kind === 'mark' && found.mark.state === 'filled') {
    const size = Math.floor((bytes - MARK_AREA) / SECTOR) * SECTOR;
    return { offset: MARK_AREA, size, change: 'adopted' };
  }
  throw new VmError(
    'FailedPrecondition',
    `block volume ${node} was filled only in part, so there is nothing to boot; set vmshim.io/root-fill to "once" to have it filled`,
  );
}

function expectRoom(
  { node, bytes }: Pick<BlockDevice, 'node' | 'bytes'>,
  size: number,
  image: ImageDisk,
  rootDiskBytes: number | undefined,
): void {
  const wanted = Math.max(image.virtualSize, rootDiskBytes ?? 0);
  if (size >= wanted) return;
  const what =
    wanted === image.virtualSize
      ? `the image’s ${quoteName(image.path)} with ${wanted} bytes`
      : `the root disk size of ${wanted} bytes that is asked for`;
  throw new VmError(
    'FailedPrecondition',
    `block volume ${node} has ${bytes} bytes, too few for ${what} and 1 MiB before it; give a larger volume`,
  );
}

/** Partition tables, file systems, LUKS, LVM and RAID all leave traces in the first or the last MiB. */
function isBlank(host: Host, { fd, bytes }: Pick<BlockDevice, 'fd' | 'bytes'>): boolean {
  return [0, Math.max(0, bytes - MARK_AREA)].every((at) => isZero(host.readBytes(fd.fd, at, MARK_AREA)));
}
