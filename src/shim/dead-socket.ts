import { dirname } from 'node:path';
import { LOCK_EX } from '../host/flock.ts';
import type { Host } from '../host/host.ts';
import type { Native } from '../host/native.ts';
import { openFlags } from '../host/open-flags.ts';

/**
 * Holds the directory of the shims' sockets until disposed, so that nobody removes what another has just bound.
 * Waits for its turn, milliseconds; an ended process gives its turn up.
 */
export function lockSocketDirectory(host: Host, native: Native, socketPath: string): Disposable {
  using opened = new DisposableStack();
  const directory = opened.use(host.open(dirname(socketPath), openFlags.O_RDONLY | openFlags.O_DIRECTORY));
  native.flock(directory.fd, LOCK_EX);
  return opened.move();
}

/** Removes a socket that a killed shim left; one that somebody serves, or none, stays as it is. */
export async function removeDeadSocket(host: Host, native: Native, path: string): Promise<void> {
  if (host.inspect(path)?.kind !== 'socket') return;
  using _turn = lockSocketDirectory(host, native, path);
  // `start` takes only the lock from here, and does without node:net.
  const { socketAnswers } = await import('./socket-probe.ts');
  if (!(await socketAnswers(path))) host.remove(path);
}
