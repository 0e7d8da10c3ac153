import { existsSync, watch } from 'node:fs';
import { dirname } from 'node:path';

/** The wait for a path to go. */
export interface Removal extends Disposable {
  /** Resolves when nothing is there; never when it was disposed before, or when the directory above cannot be watched. */
  readonly removed: Promise<void>;
}

/** Watches the directory above (inotify(7)). Does not keep the event loop alive. */
export function watchRemoval(path: string): Removal {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  using open = new DisposableStack();
  const look = (): void => {
    if (!existsSync(path)) resolve(undefined);
  };
  if (existsSync(dirname(path))) {
    const watcher = watch(dirname(path), { persistent: false }, look);
    watcher.on('error', look);
    open.defer(() => watcher.close());
  }
  look();
  const kept = open.move();
  return { removed: promise, [Symbol.dispose]: () => kept.dispose() };
}
