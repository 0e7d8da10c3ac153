import { VmError } from '../core/errors.ts';
import type { MachineDeps } from './machine-request.ts';
import type { Recorder } from './record.ts';

/**
 * Opens a VM's disks; where that is refused, once more after those were ended which dead shims of the same pod have left.
 * @param open takes back what it has done where it fails.
 */
export async function openFreed<T>(
  open: () => Promise<T>,
  { deps, recorder, signal }: { deps: MachineDeps; recorder: Recorder; signal: AbortSignal },
): Promise<T> {
  try {
    return await open();
  } catch (error) {
    if (!VmError.is(error, 'FailedPrecondition')) throw error;
    // A bundle of its own, for what hardly ever happens.
    const { endForgotten } = await import('./end-forgotten.ts');
    if (!(await endForgotten(deps, recorder.record, signal))) throw error;
    return await open();
  }
}
