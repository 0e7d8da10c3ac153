import { describeSource } from '../../core/describe-disk.ts';
import type { DiskSpec } from '../../core/disk-spec.ts';
import { VmError } from '../../core/errors.ts';
import type { FileInfo, Host, OwnedFd } from '../../host/host.ts';
import { errnoName } from '../../host/linux-errno.ts';
import { openFlags } from '../../host/open-flags.ts';
import { quoteName } from '../image-file.ts';
import { fdPath } from '../open-directory.ts';
import type { OpenDisk } from './open-disk.ts';

const { O_RDONLY, O_RDWR, O_DIRECT, O_NOFOLLOW, O_NONBLOCK } = openFlags;

/** An image's place: a name in a directory that is open already, so that nothing on the way to it can be exchanged. */
export interface ImagePlace {
  readonly directory: OwnedFd;
  readonly name: string;
  /** For people. */
  readonly path: string;
}

/** @returns what has the name, or undefined. Nothing is followed or opened. */
export function inspectImage(host: Host, { directory, name }: ImagePlace): FileInfo | undefined {
  return host.inspect(fdPath(directory, name));
}

/**
 * Opens a raw disk image. Whoever writes the volume may be hostile, so links are not followed, fifos and devices not opened,
 * and nothing in the file is looked at: a guest could write a qcow2 header into its own disk that names a file of the node.
 * @throws VmError InvalidArgument for what is no file, is empty, or cannot be written as asked.
 */
export function openImage(host: Host, spec: DiskSpec, place: ImagePlace): OpenDisk {
  const shown = quoteName(place.path);
  const refuse = (what: string, remedy: string, cause?: unknown): VmError =>
    new VmError(
      'InvalidArgument',
      `disk "${spec.name}" (${describeSource(spec.source)}): ${shown} ${what}; ${remedy}`,
      {
        cause,
      },
    );
  const kind = inspectImage(host, place)?.kind;
  if (kind === undefined) throw refuse('is missing', 'put a raw disk image there');
  if (kind !== 'file') throw refuse(`is a ${kind} and no disk image`, 'put a raw disk image there');
  const readOnly = spec.access === 'ro';
  using open = new DisposableStack();
  let plain: OwnedFd;
  try {
    plain = open.use(
      host.open(
        fdPath(place.directory, place.name),
        (readOnly ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_NONBLOCK,
      ),
    );
  } catch (cause) {
    if (errnoName(cause) === 'ELOOP')
      throw refuse('is a symlink and no disk image', 'put a raw disk image there');
    if (errnoName(cause) !== 'EROFS') throw cause;
    throw refuse('is on a read-only file system', 'mount the volume with readOnly: true', cause);
  }
  const { kind: opened, size, identity } = host.inspectFd(plain.fd);
  if (opened !== 'file') throw refuse(`is a ${opened} and no disk image`, 'put a raw disk image there');
  if (size === 0) throw refuse('has no bytes', 'give it the size that the disk is to have (truncate -s)');
  const direct =
    spec.cache === 'writeback' ? undefined : openDirect(host, plain, readOnly ? O_RDONLY : O_RDWR);
  if (spec.cache === 'none' && direct === undefined) {
    throw refuse('lies on a file system without O_DIRECT', 'leave cache out, or set it to "writeback"');
  }
  const fd = direct ?? plain;
  if (direct === undefined) open.move();
  return {
    spec,
    fd,
    kind: 'file',
    readOnly,
    size,
    direct: direct !== undefined,
    blockSize: undefined,
    path: place.path,
    identity,
  };
}

/** @returns undefined where the file system cannot. */
function openDirect(host: Host, file: OwnedFd, access: number): OwnedFd | undefined {
  try {
    return host.open(`/proc/self/fd/${file.fd}`, access | O_DIRECT);
  } catch (error) {
    if (errnoName(error) === 'EINVAL') return undefined;
    throw error;
  }
}
