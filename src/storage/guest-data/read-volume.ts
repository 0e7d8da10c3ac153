import type { GuestDataVolume } from '../../core/guest-data-spec.ts';
import { VmError } from '../../core/errors.ts';
import { MAX_USER_DATA } from '../../core/parse-guest-values.ts';
import type { Host, OwnedFd } from '../../host/host.ts';
import { openFlags } from '../../host/open-flags.ts';
import { quoteName } from '../image-file.ts';
import { fdPath } from '../open-directory.ts';

const { O_RDONLY, O_PATH, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = openFlags;

/** More than any ConfigMap or Secret has. */
const MAX_ENTRIES = 1000;

/** kubelet's link to the directory with the current files; it is exchanged when the object changes. */
const CURRENT = '..data';

/** One file of a volume. Holds what may be a secret: never log `content`. */
export interface VolumeFile {
  readonly name: string;
  /** For messages: where the container sees it. */
  readonly path: string;
  readonly content: Buffer;
  /** Whether it lies in a ConfigMap, which anybody may read who can read the namespace's objects. */
  readonly public: boolean;
}

/**
 * The files of one volume, sorted by name. A mount of a single file (`subPath`) is that file. The volume may be one that a
 * container writes, so nothing in it is followed but kubelet's own link, and that within the volume only; what is neither a
 * file nor hidden is refused.
 * @throws VmError InvalidArgument or NotFound naming the path in the container.
 */
export function readVolume(host: Host, { destination, source }: GuestDataVolume): VolumeFile[] {
  const isPublic = source.includes('/kubernetes.io~configmap/');
  const read = (file: OwnedFd, name: string, path: string): VolumeFile => ({
    name,
    path,
    content: readSmall(host, file, path),
    public: isPublic,
  });
  const kind = host.inspect(source)?.kind;
  if (kind === 'file') {
    using file = host.open(source, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    return [read(file, destination.slice(destination.lastIndexOf('/') + 1), destination)];
  }
  if (kind !== 'directory') {
    throw new VmError(
      kind === undefined ? 'NotFound' : 'InvalidArgument',
      `the volume at ${quoteName(destination)} is ${kind === undefined ? 'missing on the node' : `a ${kind}`}; mount a ConfigMap, a Secret or a directory there`,
    );
  }
  using volume = host.open(source, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  using directory = openCurrent(host, volume);
  const names = host.listDir(fdPath(directory, '.')).filter((name) => !name.startsWith('.'));
  if (names.length > MAX_ENTRIES) {
    throw new VmError(
      'InvalidArgument',
      `the volume at ${quoteName(destination)} has ${names.length} entries; guest data is at most ${MAX_ENTRIES} files`,
    );
  }
  return names.map((name) => {
    const path = `${destination}/${name}`;
    using file = openEntry(host, directory, name, path);
    return read(file, name, path);
  });
}

/** One look at the link, so that all files are of one version of the object. */
function openCurrent(host: Host, volume: OwnedFd): OwnedFd {
  const link = fdPath(volume, CURRENT);
  const within = host.inspect(link)?.kind === 'symlink' ? host.readLink(link) : '.';
  // kubelet's target is a directory beside the link.
  const target = within.includes('/') || within === '..' ? '.' : within;
  return host.open(fdPath(volume, target), O_PATH | O_DIRECTORY | O_NOFOLLOW);
}

/** Looked at through the descriptor: the name may mean something else by then. */
function openEntry(host: Host, directory: OwnedFd, name: string, path: string): OwnedFd {
  const refuse = (kind: string): VmError =>
    new VmError(
      'InvalidArgument',
      `${quoteName(path)} is a ${kind}; guest data volumes hold regular files only`,
    );
  const kind = host.inspect(fdPath(directory, name))?.kind;
  if (kind === undefined)
    throw new VmError('NotFound', `${quoteName(path)} went away while it was read; try again`);
  if (kind !== 'file') throw refuse(kind);
  const file = host.open(fdPath(directory, name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  const opened = host.inspectFd(file.fd).kind;
  if (opened === 'file') return file;
  file[Symbol.dispose]();
  throw refuse(opened);
}

/** Read beyond the limit by one byte rather than trusting the size, since the file may grow. */
function readSmall(host: Host, file: OwnedFd, path: string): Buffer {
  const { size } = host.inspectFd(file.fd);
  const content = host.readBytes(file.fd, 0, Math.min(size, MAX_USER_DATA) + 1);
  if (content.length <= MAX_USER_DATA) return content;
  throw new VmError(
    'InvalidArgument',
    `${quoteName(path)} has more than ${MAX_USER_DATA} bytes; guest data is smaller, so let the guest fetch what is large`,
  );
}
