import { VmError } from '../../core/errors.ts';
import type { Host, OwnedFd } from '../../host/host.ts';
import { openFlags } from '../../host/open-flags.ts';
import type { DriveFile } from '../guest-data/guest-data.ts';
import { quoteName } from '../image-file.ts';
import { fdPath } from '../open-directory.ts';

const { O_RDONLY, O_PATH, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = openFlags;

/** Beyond what any API object has; a volume with more is one for a disk image or a shared directory. */
const MAX_FILES = 4096;
const MAX_DEPTH = 16;
const MAX_BYTES = 64 << 20;
/** kubelet's link to the directory with the current files; it is exchanged when the object changes. */
const CURRENT = '..data';

interface Walk {
  readonly host: Host;
  /** Where the container would see the volume. */
  readonly destination: string;
  readonly files: DriveFile[];
  bytes: number;
}

/**
 * All files of a volume with their contents, by relative path. The volume may be one that a container writes: no link in it is
 * followed but kubelet's own, and what is neither file nor directory is refused. Names that begin with two dots are
 * kubelet's and are left out.
 * @throws VmError InvalidArgument or NotFound naming the path in the container.
 */
export function readFiles(
  host: Host,
  { destination, source }: { destination: string; source: string },
): DriveFile[] {
  const walk: Walk = { host, destination, files: [], bytes: 0 };
  const kind = host.inspect(source)?.kind;
  if (kind === 'file') {
    using file = host.open(source, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    addFile(walk, file, destination.slice(destination.lastIndexOf('/') + 1));
    return walk.files;
  }
  if (kind !== 'directory') {
    throw new VmError(
      kind === undefined ? 'NotFound' : 'InvalidArgument',
      `the volume at ${quoteName(destination)} is ${kind === undefined ? 'missing on the node' : `a ${kind}`}; mount a directory`,
    );
  }
  using volume = host.open(source, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  using directory = openCurrent(host, volume);
  addDirectory(walk, directory, []);
  return walk.files;
}

/** One look at the link, so that all files are of one version of the object. */
function openCurrent(host: Host, volume: OwnedFd): OwnedFd {
  const link = fdPath(volume, CURRENT);
  const target = host.inspect(link)?.kind === 'symlink' ? host.readLink(link) : '.';
  // kubelet's target is a directory beside the link.
  const beside = target.includes('/') || target === '..' ? '.' : target;
  return host.open(fdPath(volume, beside), O_PATH | O_DIRECTORY | O_NOFOLLOW);
}

function addDirectory(walk: Walk, directory: OwnedFd, above: readonly string[]): void {
  const { host } = walk;
  if (above.length > MAX_DEPTH)
    throw refuse(walk, above, 'is too deep', `have at most ${MAX_DEPTH} directories in each other`);
  for (const name of host.listDir(fdPath(directory, '.'))) {
    if (name.startsWith('..')) continue;
    const path = [...above, name];
    const kind = host.inspect(fdPath(directory, name))?.kind;
    if (kind === 'directory') {
      using below = host.open(fdPath(directory, name), O_PATH | O_DIRECTORY | O_NOFOLLOW);
      addDirectory(walk, below, path);
    } else if (kind === 'file') {
      using file = host.open(fdPath(directory, name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
      addFile(walk, file, path.join('/'));
    } else {
      const what = kind === undefined ? 'went away while it was read' : `is a ${kind}`;
      throw refuse(walk, path, what, 'a disk is made of regular files and directories only');
    }
  }
}

function addFile(walk: Walk, file: OwnedFd, path: string): void {
  const { host, files } = walk;
  const { kind, size } = host.inspectFd(file.fd);
  if (kind !== 'file')
    throw refuse(walk, [path], `is a ${kind}`, 'a disk is made of regular files and directories only');
  if (files.length >= MAX_FILES) throw refuse(walk, [], 'has too many files', `have at most ${MAX_FILES}`);
  // Beyond the limit by one byte rather than trusting the size, since the file may grow.
  const content = host.readBytes(file.fd, 0, Math.min(size, MAX_BYTES - walk.bytes) + 1);
  walk.bytes += content.length;
  if (walk.bytes > MAX_BYTES)
    throw refuse(walk, [], 'has more than 64 MiB of files', 'put a disk image into it, or have fewer');
  files.push({ path, content });
}

function refuse(walk: Walk, path: readonly string[], what: string, remedy: string): VmError {
  const shown = quoteName([walk.destination, ...path].join('/'));
  return new VmError('InvalidArgument', `${shown} ${what}; ${remedy}`);
}
