import type { Host, OwnedFd } from './host.ts';
import { errnoName, toVmError } from './linux-errno.ts';
import type { Native } from './native.ts';
import { ownFd } from './owned-fd.ts';
import { isAlive, type ProcessIdentity } from './process-identity.ts';

/** The wait for the end of a process that is not our child. */
export interface ProcessEnd extends Disposable {
  /** Resolves when nothing of it runs any more; never when it was disposed before. */
  readonly ended: Promise<void>;
}

/**
 * Watches exactly that process until the kernel tells of its end (pidfd_open(2)). Of its exit status the kernel tells its
 * parent alone. Does not keep the event loop alive.
 */
export function watchProcessEnd(host: Host, native: Native, identity: ProcessIdentity): ProcessEnd {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const pidfd = openPidfd(native, identity.pid);
  if (pidfd === undefined) {
    resolve(undefined);
    return { ended: promise, [Symbol.dispose]: () => undefined };
  }
  let watched = true;
  const close = (): void => {
    if (!watched) return;
    watched = false;
    native.unwatch(pidfd.fd);
    pidfd[Symbol.dispose]();
  };
  native.watchReadable(pidfd.fd, () => {
    close();
    resolve(undefined);
  });
  // The pid may have been another's when it was opened.
  if (!isAlive(host, identity)) {
    close();
    resolve(undefined);
  }
  return { ended: promise, [Symbol.dispose]: close };
}

function openPidfd(native: Native, pid: number): OwnedFd | undefined {
  try {
    return ownFd(native.pidfdOpen(pid));
  } catch (error) {
    if (errnoName(error) === 'ESRCH') return undefined;
    throw toVmError(error, `watch process ${pid}`);
  }
}
