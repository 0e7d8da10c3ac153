import { watch } from 'node:fs';
import { withErrno } from './linux-errno.ts';

/**
 * Calls `changed` whenever a file is written to, at least once for any number of writes in a row (inotify(7)). It ends
 * silently with the file. Does not keep the process alive.
 * @throws VmError NotFound when there is no such file, ResourceExhausted when the kernel watches too much already.
 */
export function watchFile(path: string, changed: () => void): Disposable {
  const watcher = withErrno(`watch ${path}`, () => watch(path, { persistent: false }));
  watcher.on('change', changed);
  watcher.on('error', () => watcher.close());
  return { [Symbol.dispose]: () => watcher.close() };
}
