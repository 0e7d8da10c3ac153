import { watch } from 'node:fs';
import { withErrno } from './linux-errno.ts';

/**
 * Calls `changed` with the name of whatever is made, replaced, renamed or removed in a directory (inotify(7)), and with
 * undefined when the kernel had to leave something out or the directory itself is gone: then everything is to be looked
 * at again. Does not keep the process alive.
 * @throws VmError NotFound when there is no such directory, ResourceExhausted when the kernel watches too much already.
 */
export function watchDirectory(path: string, changed: (name: string | undefined) => void): Disposable {
  const watcher = withErrno(`watch ${path}`, () => watch(path, { persistent: false, recursive: false }));
  watcher.on('change', (_type, name) => changed(typeof name === 'string' ? name : undefined));
  watcher.on('error', () => changed(undefined));
  return { [Symbol.dispose]: () => watcher.close() };
}
