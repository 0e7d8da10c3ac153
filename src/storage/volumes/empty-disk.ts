import type { DiskSpec } from '../../core/disk-spec.ts';
import { VmError } from '../../core/errors.ts';
import { MIB } from '../../core/quantity.ts';
import type { Host } from '../../host/host.ts';
import { openFlags } from '../../host/open-flags.ts';
import { publishFile } from '../publish-file.ts';
import { ensureStateDirectory, type StateDirectory } from '../state-directory.ts';
import type { OpenDisk } from './open-disk.ts';
import { inspectImage, openImage } from './open-image.ts';

const { O_PATH, O_DIRECTORY, O_NOFOLLOW } = openFlags;

/** Absolute path of an empty disk: beside the root disk, and there as long as that. */
export function emptyDiskPath(state: StateDirectory, name: string): string {
  return `${state.path}/disk-${name}.img`;
}

/**
 * Opens an empty disk: a sparse raw file that is made when it is not there, and grown when more is asked for than it has. It
 * is never shrunk or replaced.
 * @param bytes rounded up to a MiB.
 * @throws VmError FailedPrecondition for one that is larger; ResourceExhausted.
 */
export async function openEmptyDisk(
  host: Host,
  spec: DiskSpec,
  bytes: number,
  state: StateDirectory,
): Promise<OpenDisk> {
  const wanted = Math.ceil(bytes / MIB) * MIB;
  const path = emptyDiskPath(state, spec.name);
  ensureStateDirectory(host, state);
  using directory = host.open(state.path, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  const place = { directory, name: path.slice(path.lastIndexOf('/') + 1), path };
  if (inspectImage(host, place) === undefined) {
    const made = await publishFile(host, { path, draft: `${path}.new` }, (fd) => setSize(host, fd, wanted));
    made[Symbol.dispose]();
  }
  const disk = openImage(host, spec, place);
  if (disk.size === wanted) return disk;
  using stack = new DisposableStack();
  stack.use(disk.fd);
  if (disk.size > wanted) {
    throw new VmError(
      'FailedPrecondition',
      `empty disk "${spec.name}" has ${disk.size} bytes already and is never shrunk, but ${bytes} are asked for; ask for at least what it has, or give the disk another name to begin anew`,
    );
  }
  // A disk that is only read, or read past the page cache, takes no single byte.
  using writable = host.open(path, openFlags.O_RDWR | O_NOFOLLOW);
  setSize(host, writable.fd, wanted);
  host.sync(writable.fd);
  stack.move();
  return { ...disk, size: wanted };
}

/** The last byte makes the size; all before it stays a hole. */
function setSize(host: Host, fd: number, bytes: number): void {
  host.writeBytes(fd, bytes - 1, new Uint8Array(1));
}
