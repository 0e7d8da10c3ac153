import { basename, dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { exitStatus, type TaskExit } from '../core/exit.ts';
import { absentIs } from '../host/absent-is.ts';
import { detectCgroupLayout } from '../host/cgroup-layout.ts';
import { killCgroup } from '../host/cgroup-kill.ts';
import { planCgroup } from '../host/cgroup-plan.ts';
import { wholeCgroup } from '../host/cgroup-scope.ts';
import { removeCgroup } from '../host/cgroup.ts';
import type { Host } from '../host/host.ts';
import { killIdentity } from '../host/kill-identity.ts';
import type { Native } from '../host/native.ts';
import { bootId, isAlive, type ProcessIdentity } from '../host/process-identity.ts';
import { leave } from '../numa/ledger.ts';
import { numaBooks } from './numa-books.ts';
import { removeMarker } from './orphan-marker.ts';
import { unplugNics } from './unplug-nics.ts';
import { findMarkedProcesses } from './marked-process.ts';
import { readRecord, RECORD_FILE, type VmRecord } from './record.ts';
import { detachMounts } from './rootfs-mount.ts';

const SIGKILL = 9;

export interface CleanUpDeps {
  readonly host: Host;
  readonly native: Native;
}

/** What a task was when it was cleaned up. `pid` 0 where no record told of a process. */
export interface CleanedTask {
  readonly pid: number;
  readonly exit: TaskExit;
  /** The socket of the shim that ran it; undefined where no record told. */
  readonly shimSocket: string | undefined;
}

/**
 * Undoes everything a record names, with nothing but the record and the kernel: no QMP, no guest, no shim. Every step
 * is idempotent and may run beside another clean-up of the same VM. Disks are not touched.
 */
export async function cleanUpTask(
  deps: CleanUpDeps,
  recordPath: string,
  signal: AbortSignal,
): Promise<CleanedTask> {
  const { host } = deps;
  const record = readRecord(host, recordPath);
  const exit: TaskExit = record?.exit ?? killedNow();
  if (record === undefined) {
    // The VM's directory is made before the record in it; nothing else exists then.
    if (basename(recordPath) === RECORD_FILE) removeDirectory(host, dirname(recordPath));
    return { pid: 0, exit, shimSocket: undefined };
  }
  // After a reboot pids, cgroups and mounts of the record belong to nobody or to somebody else.
  if (record.bootId === bootId(host)) await undo(deps, record, signal);
  removeDirectory(host, record.logDir);
  if (record.survival !== undefined)
    removeMarker(host, dirname(record.runDir), record.survival.owner, record.runDir);
  // Last, so that what failed before is tried again.
  removeDirectory(host, record.runDir);
  return { pid: record.qemu?.pid ?? 0, exit, shimSocket: record.shimSocket };
}

/** One whose parent is no directory was never made. */
function removeDirectory(host: Host, path: string): void {
  absentIs(undefined, () => host.removeTree(path));
}

async function undo({ host, native }: CleanUpDeps, record: VmRecord, signal: AbortSignal): Promise<void> {
  const processes: ProcessIdentity[] =
    record.qemu === undefined
      ? findMarkedProcesses(host, record.key, record.bootId)
      : [{ ...record.qemu, bootId: record.bootId }];
  const keeper = record.orphan?.keeper;
  if (keeper !== undefined && keeper.pid !== process.pid)
    killIdentity(host, native, { ...keeper, bootId: record.bootId }, SIGKILL);
  for (const identity of processes) killIdentity(host, native, identity, SIGKILL);
  const cgroup = wholeCgroup(planCgroup(detectCgroupLayout(host), record.cgroup, record.key));
  await killCgroup(host, native, cgroup, signal);
  for (const identity of processes) await ended(host, identity, signal);
  await removeCgroup(host, cgroup, signal);
  if (record.mountPoint !== undefined) detachMounts(native, record.mountPoint);
  await unplugNics(host, record.nics, signal);
  await leaveBooks({ host, native }, record, signal);
  // After QEMU, whose TAPs are what keeps them.
  for (const { kind, tap } of record.nics) if (kind === 'tap') await releaseLease(host, record, tap, signal);
}

/** What QEMU had is free now that it has ended. */
export async function leaveBooks(
  deps: CleanUpDeps,
  { numa, key, runDir }: VmRecord,
  signal: AbortSignal,
): Promise<void> {
  if (numa?.ledger === undefined) return;
  const books = numaBooks(deps.host, dirname(runDir), () => undefined);
  await leave({ ...books, native: deps.native, path: numa.ledger }, key, signal);
}

/** vm-tap keeps the addresses of a guest whose sandbox has gone before it. */
async function releaseLease(
  host: Host,
  { runDir }: VmRecord,
  tap: string,
  signal: AbortSignal,
): Promise<void> {
  const stateDir = dirname(runDir);
  const there = (suffix: string): boolean =>
    host.inspect(`${stateDir}/kept-${tap}.json${suffix}`) !== undefined;
  if (!there('') && !there('.releasing')) return;
  // A bundle of its own, which hardly any VM's end needs.
  const { releaseKept } = await import('../net/cni/kept-nic.ts');
  await releaseKept(host, stateDir, tap, signal);
}

/** We are not QEMU's parent, so the kernel does not tell us; a killed process is gone within milliseconds. */
async function ended(host: Host, identity: ProcessIdentity, signal: AbortSignal): Promise<void> {
  for (let pause = 1; isAlive(host, identity); pause = Math.min(2 * pause, 64))
    await delay(pause, undefined, { signal });
}

/** The exit of a task that nobody saw end. */
export function killedNow(): TaskExit {
  const reason = { kind: 'killed', signal: SIGKILL } as const;
  return { status: exitStatus(reason), at: Date.now(), reason };
}
