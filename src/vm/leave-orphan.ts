import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Host } from '../host/host.ts';
import { killIdentity } from '../host/kill-identity.ts';
import { bootId, isAlive } from '../host/process-identity.ts';
import type { CleanUpDeps } from './clean-up.ts';
import { lockOwners, writeMarker } from './orphan-marker.ts';
import { type ProcessMark, readRecord, type VmRecord, writeRecord } from './record.ts';

const SIGKILL = 9;

/**
 * Leaves the guest of a dead shim running until the next one takes it over, at most until its deadline.
 * @param spawnKeeper starts the process that watches over it, which has to outlive the caller.
 * @returns the record, or undefined for a VM that is to be cleaned up.
 */
export async function leaveOrphan(
  { host, native }: CleanUpDeps,
  recordPath: string,
  spawnKeeper: (record: VmRecord) => void,
  signal: AbortSignal,
): Promise<VmRecord | undefined> {
  const found = readRecord(host, recordPath);
  if (found === undefined || !outlives(host, found)) return undefined;
  // containerd has given that shim up: were it only slow, two would run the same VM. Of an orphan it is the next one, which
  // is just taking it over.
  const { shim, orphan: since } = found;
  if (shim !== undefined && since === undefined) {
    killIdentity(host, native, { ...shim, bootId: found.bootId }, SIGKILL);
    await ended(host, found, shim, signal);
  }
  const stateDir = dirname(found.runDir);
  using _turn = lockOwners(host, native, stateDir);
  const record = readRecord(host, recordPath);
  if (record?.survival === undefined || !outlives(host, record)) return undefined;
  // Another shim, or its keeper, was faster.
  if (lives(host, record, record.shim) || lives(host, record, record.orphan?.keeper)) return record;
  // Of one that was left before: whoever failed to take it over has decided how long it may wait.
  const orphan = {
    ...(record.orphan ?? orphanNow(record.survival.deadlineMs)),
    keeper: undefined,
    ending: false,
  };
  writeRecord(host, { ...record, shim: undefined, orphan });
  writeMarker(host, stateDir, record.survival.owner, record.runDir);
  spawnKeeper(record);
  return record;
}

export function orphanNow(deadlineMs: number): NonNullable<VmRecord['orphan']> {
  const since = Date.now();
  return { since, deadline: since + deadlineMs, keeper: undefined, ending: false };
}

function outlives(host: Host, record: VmRecord): boolean {
  const { survival, qemu, exit } = record;
  return (
    survival !== undefined &&
    exit === undefined &&
    record.bootId === bootId(host) &&
    lives(host, record, qemu)
  );
}

export function lives(
  host: Host,
  { bootId }: Pick<VmRecord, 'bootId'>,
  mark: ProcessMark | undefined,
): boolean {
  return mark !== undefined && isAlive(host, { ...mark, bootId });
}

/** We are not its parent, so the kernel does not tell us; a killed process is gone within milliseconds. */
async function ended(host: Host, record: VmRecord, mark: ProcessMark, signal: AbortSignal): Promise<void> {
  for (let pause = 1; lives(host, record, mark); pause = Math.min(2 * pause, 64))
    await delay(pause, undefined, { signal });
}
