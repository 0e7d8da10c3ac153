import { constants } from 'node:fs';
import { VmError } from '../core/errors.ts';
import type { Host } from './host.ts';
import { toVmError } from './linux-errno.ts';
import type { Native } from './native.ts';

const LOCK_EX_NB = 2 | 4;

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
  if (native.flock(lock.fd, LOCK_EX_NB)) return stack.move();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(VmError.from(signal.reason, `waiting for the lock ${path}`));
  signal.addEventListener('abort', onAbort, { once: true });
  // The thread goes on waiting whatever becomes of the call, and needs the descriptor for it.
  const held = stack.move();
  const locked = native.flockWait(lock.fd);
  try {
    await Promise.race([locked, aborted]);
    return held;
  } catch (error) {
    const close = (): void => held[Symbol.dispose]();
    locked.then(close, close);
    throw VmError.is(error) ? error : toVmError(error, `lock ${path}`);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
