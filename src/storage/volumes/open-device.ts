import { describeSource } from '../../core/describe-disk.ts';
import type { DiskSpec } from '../../core/disk-spec.ts';
import { VmError } from '../../core/errors.ts';
import type { DeviceNumber, Host, OwnedFd } from '../../host/host.ts';
import { errnoName } from '../../host/linux-errno.ts';
import { openFlags } from '../../host/open-flags.ts';
import type { OpenDisk } from './open-disk.ts';

const { O_RDONLY, O_RDWR, O_DIRECT, O_EXCL, O_NONBLOCK } = openFlags;
/** Of sysfs, whatever the device's own sectors are. */
const SYSFS_SECTOR = 512;

/**
 * Opens a block device by its number. A disk that is written to is opened exclusively: the kernel refuses that while the
 * device is mounted, part of another one, or another VM's, and QEMU inherits the claim. Source: open(2), O_EXCL.
 * @param holder which VM has it, for people.
 * @throws VmError FailedPrecondition when it is not there, read-only, without bytes or in use.
 */
export function openDevice(
  host: Host,
  spec: DiskSpec,
  { major, minor }: DeviceNumber,
  holder: (identity: string) => string | undefined,
): OpenDisk {
  const identity = `block ${major}:${minor}`;
  const refuse = (what: string, remedy: string, cause?: unknown): VmError =>
    new VmError(
      'FailedPrecondition',
      `disk "${spec.name}" (${describeSource(spec.source)}): the block device ${major}:${minor} ${what}; ${remedy}`,
      { cause },
    );
  const sysfs = `/sys/dev/block/${major}:${minor}`;
  let node: string;
  let size: number;
  try {
    node = `/dev/${/^DEVNAME=(.+)$/m.exec(host.readText(`${sysfs}/uevent`))?.[1] ?? ''}`;
    size = readNumber(host, `${sysfs}/size`) * SYSFS_SECTOR;
    if (spec.access === 'rw' && readNumber(host, `${sysfs}/ro`) !== 0)
      throw refuse(
        'is read-only',
        'give the disk readOnly: true in vmshim.io/disks, or a volume that can be written',
      );
  } catch (cause) {
    if (!VmError.is(cause, 'NotFound')) throw cause;
    throw refuse('is not there', 'find out why the volume is not attached to this node', cause);
  }
  if (size === 0) throw refuse('has no bytes', 'find out why the volume is not attached to this node');
  const readOnly = spec.access === 'ro';
  const flags = (readOnly ? O_RDONLY : O_RDWR | O_EXCL) | O_NONBLOCK;
  const direct = spec.cache !== 'writeback';
  using open = new DisposableStack();
  let fd: OwnedFd;
  try {
    fd = open.use(host.open(node, direct ? flags | O_DIRECT : flags));
  } catch (cause) {
    if (errnoName(cause) !== 'EBUSY') throw cause;
    const by =
      holder(identity) ?? 'something else: it is mounted, part of another device, or the disk of a VM';
    throw refuse(
      `(${node}) is in use by ${by}`,
      'one disk serves one VM at a time, so stop that one first',
      cause,
    );
  }
  const { kind, device } = host.inspectFd(fd.fd);
  if (kind !== 'block-device' || device.major !== major || device.minor !== minor)
    throw refuse(`is not what "${node}" names`, 'find out who changed /dev');
  const blockSize = {
    logical: readNumber(host, `${queueOf(host, sysfs)}/logical_block_size`),
    physical: readNumber(host, `${queueOf(host, sysfs)}/physical_block_size`),
  };
  open.move();
  return { spec, fd, kind, readOnly, size, direct, blockSize, path: node, identity };
}

/** A partition has its disk's queue. */
function queueOf(host: Host, sysfs: string): string {
  return host.inspect(`${sysfs}/queue`) === undefined ? `${sysfs}/../queue` : `${sysfs}/queue`;
}

function readNumber(host: Host, path: string): number {
  return Number(host.readText(path));
}
