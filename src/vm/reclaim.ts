import { VmError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import { isAlive } from '../host/process-identity.ts';
import { type CleanUpDeps, cleanUpTask } from './clean-up.ts';
import { readRecord } from './record.ts';

/**
 * Makes way for a new VM where a record of an earlier one of the same id is still there: its shim was killed and nobody
 * ran `delete`. The new record would hide what the old one names for ever.
 * @throws VmError AlreadyExists when another shim lives that runs it, as under a second containerd with our state_dir.
 */
export async function reclaim(
  deps: CleanUpDeps & { readonly log: Logger },
  recordPath: string,
  signal: AbortSignal,
): Promise<void> {
  const { host, log } = deps;
  const old = readRecord(host, recordPath);
  if (old === undefined) return;
  const { shim, id, namespace, bundle } = old;
  const lives = shim !== undefined && isAlive(host, { ...shim, bootId: old.bootId });
  if (lives && shim.pid !== process.pid) {
    throw new VmError(
      'AlreadyExists',
      `VM "${id}" of namespace "${namespace}" is run by shim process ${shim.pid} already (bundle "${bundle}"); delete that task first, or give each containerd a state_dir of its own`,
    );
  }
  log.warn('an earlier VM of this id was never cleaned up; doing it now', { id, bundle });
  await cleanUpTask(deps, recordPath, signal);
}
