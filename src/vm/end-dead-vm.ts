import { type CleanedTask, type CleanUpDeps, cleanUpTask, killedNow } from './clean-up.ts';
import { leaveOrphan } from './leave-orphan.ts';
import { spawnKeeper } from './spawn-keeper.ts';

/** What becomes of a VM whose shim has died. */
export interface DeadVm extends CleanedTask {
  /** Its guest runs on, as an orphan. */
  readonly left: boolean;
}

/**
 * Does with a VM whose shim has died what its policy says: the one path for `delete` and for whoever meets what a `delete` has
 * not done. A guest that is to outlive its shim is ended for containerd alone. One that cannot be marked as such, where the
 * state directory is full, is ended for good: no shim would find it, and it would hold the pod's disk for ever.
 */
export async function endDeadVm(deps: CleanUpDeps, recordPath: string, signal: AbortSignal): Promise<DeadVm> {
  const { host } = deps;
  const left = await leaveOrphan(deps, recordPath, (record) => spawnKeeper(host, record), signal).catch(
    () => {
      signal.throwIfAborted();
      return undefined;
    },
  );
  if (left === undefined) return { ...(await cleanUpTask(deps, recordPath, signal)), left: false };
  return { pid: left.qemu?.pid ?? 0, exit: killedNow(), shimSocket: left.shimSocket, left: true };
}
