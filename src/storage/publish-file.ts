import { VmError } from '../core/errors.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import { openFlags } from '../host/open-flags.ts';

const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW, O_DIRECTORY } = openFlags;
const MODE = 0o600;

export interface Publication {
  /** The name the file gets when it is complete. */
  readonly path: string;
  /** Where it is filled: another name in the same directory. */
  readonly draft: string;
}

/**
 * Makes a file that is there complete and durable or not at all, and never takes the place of another one: it is
 * filled under a draft name, synced, and then linked to its own name.
 * @param fill writes the draft through its descriptor or by its name, keeping the inode.
 * @returns the file, open for reading and writing.
 * @throws VmError AlreadyExists when the name is taken; whatever `fill` throws. The draft is gone then.
 */
export async function publishFile(
  host: Host,
  { path, draft }: Publication,
  fill: (fd: number) => Promise<void> | void,
): Promise<OwnedFd> {
  // What a crash left of an earlier try. A link is removed, not followed.
  host.remove(draft);
  const file = host.open(draft, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, MODE);
  try {
    await fill(file.fd);
    host.sync(file.fd);
    host.link(draft, path);
    host.remove(draft);
    syncDirectory(host, parentOf(path));
    return file;
  } catch (error) {
    file[Symbol.dispose]();
    try {
      host.remove(draft);
    } catch (second) {
      throw new VmError(
        VmError.from(error).kind,
        `${VmError.from(error).message}; and "${draft}" could not be removed`,
        {
          cause: new AggregateError([error, second]),
        },
      );
    }
    throw error;
  }
}

/** Makes the names in a directory durable. */
export function syncDirectory(host: Host, path: string): void {
  using directory = host.open(path, O_RDONLY | O_DIRECTORY);
  host.sync(directory.fd);
}

export function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}
