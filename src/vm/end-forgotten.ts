import { dirname } from 'node:path';
import { VmError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import { bootId } from '../host/process-identity.ts';
import { readAllRecords } from './all-records.ts';
import type { CleanUpDeps } from './clean-up.ts';
import { endDeadVm } from './end-dead-vm.ts';
import { lives } from './leave-orphan.ts';
import { RECORD_FILE, type VmRecord } from './record.ts';

/**
 * Ends VMs that stand in the way of another one of the same pod, or with the same root disk, and whose shims are dead: containerd
 * gives a `delete` 5 s and does not ask again, so on a starved machine a QEMU may outlive it with the pod's disks. What lives
 * and what is whose is told by records alone: pid, start time and boot.
 * @param own record of the VM that is being made.
 * @returns whether one was ended, so that its disks are free.
 */
export async function endForgotten(
  deps: CleanUpDeps & { readonly log: Logger },
  own: VmRecord,
  signal: AbortSignal,
): Promise<boolean> {
  const { host, log } = deps;
  const forgotten = readAllRecords(host, dirname(own.runDir)).filter(
    ({ record }) => record !== undefined && !VmError.is(record) && isForgotten(deps, record, own),
  );
  let ended = false;
  for (const { runDir } of forgotten) {
    log.warn('a VM of a dead shim was never cleaned up and may hold a disk; doing it now', {
      id: own.id,
      directory: runDir,
    });
    const { left } = await endDeadVm(deps, `${runDir}/${RECORD_FILE}`, signal);
    ended ||= !left;
  }
  return ended;
}

function isForgotten({ host }: CleanUpDeps, record: VmRecord, own: VmRecord): boolean {
  if (record.runDir === own.runDir || record.bootId !== bootId(host)) return false;
  if (lives(host, record, record.shim)) return false;
  const samePod = own.podUid !== undefined && record.podUid === own.podUid;
  return samePod || (own.rootDisk !== undefined && record.rootDisk === own.rootDisk);
}
