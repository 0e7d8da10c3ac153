import { basename } from 'node:path';
import { VmError } from '../core/errors.ts';
import type { Config } from '../core/config.ts';
import { absentIs } from '../host/absent-is.ts';
import { killIdentity } from '../host/kill-identity.ts';
import { watchProcessEnd } from '../host/process-end.ts';
import { bootId, readIdentity } from '../host/process-identity.ts';
import type { CleanUpDeps } from './clean-up.ts';
import { lives, orphanNow } from './leave-orphan.ts';
import type { VmNames } from './names.ts';
import { lockOwners, readMarker } from './orphan-marker.ts';
import { type ProcessMark, readRecord, RECORD_FILE, type VmRecord, writeRecord } from './record.ts';

const SIGKILL = 9;

/** What a claim found. */
export type Claim =
  | { readonly kind: 'none' }
  /** It is being shut down by that process. */
  | { readonly kind: 'ending'; readonly keeper: ProcessMark; readonly record: VmRecord }
  /** It is ours now; `fits` where it may go on. */
  | { readonly kind: 'claimed'; readonly record: VmRecord; readonly fits: boolean };

export interface ClaimRequest {
  readonly owner: string;
  readonly config: Pick<Config, 'stateDir'>;
  /** Whether what runs is what is asked for. */
  readonly fits: (record: VmRecord) => boolean;
}

/**
 * Makes the orphan of an owner ours, if there is one: from here on its record names us, so that nobody else takes it while
 * we live. Its keeper is gone when this resolves.
 */
export async function claimOrphan(deps: CleanUpDeps, request: ClaimRequest): Promise<Claim> {
  const claim = writeClaim(deps, request);
  if (claim.kind === 'claimed') await endKeeper(deps, claim.record);
  return claim;
}

function writeClaim({ host, native }: CleanUpDeps, { owner, config, fits }: ClaimRequest): Claim {
  const { stateDir } = config;
  if (readMarker(host, stateDir, owner) === undefined) return { kind: 'none' };
  using _turn = lockOwners(host, native, stateDir);
  const runDir = readMarker(host, stateDir, owner);
  const record = runDir === undefined ? undefined : readRecord(host, `${runDir}/${RECORD_FILE}`);
  if (record?.survival === undefined || record.bootId !== bootId(host)) return { kind: 'none' };
  const { shim, survival } = record;
  const runs = lives(host, record, record.qemu);
  const isRun = lives(host, record, shim);
  // What another shim runs, or what has ended, is no orphan.
  if (record.orphan === undefined && (isRun || !runs || record.exit !== undefined)) return { kind: 'none' };
  if (isRun && shim?.pid !== process.pid) {
    throw new VmError(
      'AlreadyExists',
      `the VM of this pod is run by shim process ${shim?.pid ?? 0} already (container "${record.id}"); delete that one first`,
    );
  }
  const orphan = record.orphan ?? orphanNow(survival.deadlineMs);
  const { keeper } = orphan;
  if (orphan.ending && keeper !== undefined && lives(host, record, keeper))
    return { kind: 'ending', keeper, record };
  const good = !orphan.ending && runs && fits(record);
  const claimed = { ...record, shim: ourMark({ host }), orphan: { ...orphan, ending: !good } };
  writeRecord(host, claimed);
  return { kind: 'claimed', record: claimed, fits: good };
}

/** Us, as records name processes. */
export function ourMark({ host }: Pick<CleanUpDeps, 'host'>): ProcessMark | undefined {
  const us = readIdentity(host, process.pid);
  return us === undefined ? undefined : { pid: us.pid, startTime: us.startTime };
}

/** It has QEMU's QMP and console, which take one client at a time. */
async function endKeeper({ host, native }: CleanUpDeps, record: VmRecord): Promise<void> {
  const keeper = record.orphan?.keeper;
  if (keeper === undefined) return;
  const identity = { ...keeper, bootId: record.bootId };
  using end = watchProcessEnd(host, native, identity);
  killIdentity(host, native, identity, SIGKILL);
  await end.ended;
}

/**
 * Moves a VM's directory and record to the names of the container that it is from now on. What QEMU has open moves along;
 * so do its sockets.
 * @param change beside the directories; on disk before anything is moved.
 */
export function moveRecord(
  { host }: Pick<CleanUpDeps, 'host'>,
  record: VmRecord,
  names: VmNames,
  change: Partial<VmRecord>,
): VmRecord {
  const logs = record.logDir.slice(0, -basename(record.logDir).length);
  const moved = { ...record, ...change, key: names.key, logDir: `${logs}${names.key}` };
  // Where we end in between, the record stays where its keeper and garbage collection look, and names all there is.
  if (record.logDir !== moved.logDir) absentIs(undefined, () => host.rename(record.logDir, moved.logDir));
  writeRecord(host, moved);
  if (record.runDir !== names.runDir) host.rename(record.runDir, names.runDir);
  return { ...moved, runDir: names.runDir };
}
