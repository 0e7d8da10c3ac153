import { VmError } from '../core/errors.ts';
import type { Task } from './task.ts';

const SIGKILL = 9;
const SIGTERM = 15;
/** What a timer can wait, 24 days; more would end at once. */
const LONGEST_MS = 2 ** 31 - 1;

/**
 * Brings a task down: its power button, and when `graceMs` are over the plug; without any grace the plug at once. Resolves
 * when it is stopped, at once for one that is.
 * @throws the signal's reason when it aborts first; the guest has been told by then and is not taken back.
 */
export async function stopTask(task: Task, graceMs: number, signal: AbortSignal): Promise<void> {
  if (graceMs > 0) {
    await tell(task, SIGTERM, signal);
    // Nobody waits for the grace of a task that has stopped.
    const over = new AbortController();
    const timer = setTimeout(() => over.abort(), Math.min(graceMs, LONGEST_MS));
    await stoppedOr(task, AbortSignal.any([signal, over.signal]));
    clearTimeout(timer);
    signal.throwIfAborted();
  }
  if (task.exit === undefined) await tell(task, SIGKILL, signal);
  await stoppedOr(task, signal);
  signal.throwIfAborted();
}

/** One that has ended in the meantime is as good as told. */
async function tell(task: Task, number: number, signal: AbortSignal): Promise<void> {
  try {
    await task.kill(number, signal);
  } catch (error) {
    if (!VmError.is(error, 'NotFound')) throw error;
  }
}

async function stoppedOr(task: Task, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const give = (): void => resolve(undefined);
  signal.addEventListener('abort', give, { once: true });
  if (!signal.aborted) await Promise.race([task.stopped, promise]);
  signal.removeEventListener('abort', give);
}
