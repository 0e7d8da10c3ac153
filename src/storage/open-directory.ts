import type { FileInfo, Host, OwnedFd } from '../host/host.ts';
import { openFlags } from '../host/open-flags.ts';

const { O_PATH, O_DIRECTORY, O_NOFOLLOW } = openFlags;

/**
 * Opens a directory by `O_PATH`, one component after the other and no link followed: whoever may write below `root` is not
 * trusted. `root` itself is.
 * @param refuse what to throw for a component that is no directory; `reached` is its path below `root`, from a "/" on.
 */
export function openDirectoryBelow(
  host: Host,
  root: string,
  parts: readonly string[],
  refuse: (kind: FileInfo['kind'] | undefined, reached: string) => Error,
): OwnedFd {
  let directory = host.open(root, O_PATH | O_DIRECTORY);
  try {
    let reached = '';
    for (const part of parts) {
      reached += `/${part}`;
      const kind = host.inspect(fdPath(directory, part))?.kind;
      if (kind !== 'directory') throw refuse(kind, reached);
      const next = host.open(fdPath(directory, part), O_PATH | O_DIRECTORY | O_NOFOLLOW);
      directory[Symbol.dispose]();
      directory = next;
    }
    return directory;
  } catch (error) {
    directory[Symbol.dispose]();
    throw error;
  }
}

/** A path to an entry of an opened directory, whatever happens to the directory's own name. */
export function fdPath(directory: OwnedFd, name: string): string {
  return `/proc/self/fd/${directory.fd}/${name}`;
}
