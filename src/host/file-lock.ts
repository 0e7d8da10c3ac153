import { once } from 'node:events';
import { constants } from 'node:fs';
import { Socket } from 'node:net';
import { getSystemErrorMessage } from 'node:util';
import { VmError } from '../core/errors.ts';
import { LOCK_EX, LOCK_NB } from './flock.ts';
import type { Host } from './host.ts';
import type { Native } from './native.ts';

/**
 * Holds flock(2) on a file, which is made when absent, until it is disposed of or the process ends. Waits for other
 * holders in a thread, so the event loop goes on; as the kernel serves them, not by asking again. Throws Canceled or
 * DeadlineExceeded by `signal`: a lock that comes after all is let go at once.
 */
export async function lockFile(
  host: Host,
  native: Native,
  path: string,
  signal: AbortSignal,
): Promise<Disposable> {
  if (signal.aborted) throw VmError.from(signal.reason, `locking ${path}`);
  using stack = new DisposableStack();
  const lock = stack.use(host.open(path, constants.O_RDWR | constants.O_CREAT, 0o600));
  if (native.flock(lock.fd, LOCK_EX | LOCK_NB)) return stack.move();
  const outcome = new Socket({ fd: native.flockWait(lock.fd), readable: true, writable: false });
  stack.defer(() => void outcome.destroy());
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(VmError.from(signal.reason, `waiting for the lock ${path}`));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const [bytes] = (await Promise.race([once(outcome, 'data'), aborted.promise])) as [Buffer];
    const number = bytes[0] ?? 0;
    if (number !== 0) throw new VmError('Internal', `cannot lock ${path}: ${getSystemErrorMessage(-number)}`);
    return stack.move();
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
