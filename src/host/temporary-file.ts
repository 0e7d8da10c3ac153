import { randomUUID } from 'node:crypto';
import { fchmodSync, openSync, unlinkSync, constants } from 'node:fs';
import { join } from 'node:path';
import type { OwnedFd } from './host.ts';
import { withErrno } from './linux-errno.ts';
import { ownFd } from './owned-fd.ts';

/**
 * A file without a name, for reading and writing: gone with its last descriptor, however its holders end. Children reach
 * it as /proc/self/fd/N by its mode alone, and nobody else does.
 */
export function temporaryFile(directory: string, mode: number): OwnedFd {
  const path = join(directory, `.vmctl-${randomUUID()}`);
  return withErrno(`make a temporary file in ${directory}`, () => {
    const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;
    // Without a mode as long as it has a name. O_TMPFILE would do the same on fewer file systems.
    const file = ownFd(openSync(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600));
    try {
      unlinkSync(path);
      fchmodSync(file.fd, mode);
      return file;
    } catch (error) {
      file[Symbol.dispose]();
      throw error;
    }
  });
}
