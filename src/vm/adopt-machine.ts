import { dirname } from 'node:path';
import { VmError } from '../core/errors.ts';
import type { VmSpec } from '../core/vm-spec.ts';
import { detectCgroupLayout } from '../host/cgroup-layout.ts';
import { type Cgroup, planCgroup } from '../host/cgroup-plan.ts';
import { killCgroup } from '../host/cgroup-kill.ts';
import { wholeCgroup } from '../host/cgroup-scope.ts';
import { readCgroupStats } from '../host/cgroup-stats.ts';
import { cgroupPids, createCgroup, joinCgroup, removeCgroup } from '../host/cgroup.ts';
import { watchProcessEnd } from '../host/process-end.ts';
import { claimedBytes } from '../numa/claim.ts';
import { enter, leave } from '../numa/ledger.ts';
import type { NumaPlan } from '../numa/numa-plan.ts';
import { readNicCounters } from '../net/nic-counters.ts';
import { plugVcpus } from '../qemu/plug-vcpus.ts';
import { QemuLog } from '../qemu/qemu-log.ts';
import { QemuProcess } from '../qemu/process.ts';
import { type QmpExecutor, queryStatus } from '../qemu/qmp-commands.ts';
import { queryPlugged } from '../qemu/virtio-mem.ts';
import { podNameOf } from './begin-record.ts';
import { cleanUpTask } from './clean-up.ts';
import { shutDownOrphan } from './end-orphan.ts';
import { readGuestFigures } from './guest-figures.ts';
import { adoptedNics, atBoot, changedAddresses, sameCards, told } from './adopted-nics.ts';
import { adoptDirectories, hasDirectories } from './adopt-directories.ts';
import { announceArrival } from './announce-arrival.ts';
import { answerDhcp } from './guest-nics.ts';
import { leaveOrphan, orphanNow } from './leave-orphan.ts';
import { limitVmMemory } from './limit-memory.ts';
import { limitAgain } from './limit-again.ts';
import type { LiveMemoryParts } from './live-memory.ts';
import { Machine } from './machine.ts';
import type { MachineDeps, MachineRequest } from './machine-request.ts';
import { holdMemory } from './memory-hold.ts';
import { type VmNames, vmNames } from './names.ts';
import { countedNic, type NicPlan, planNics } from './nic-plan.ts';
import { readNicStatus } from './nic-status.ts';
import { numaBooks } from './numa-books.ts';
import { claimOrphan, moveRecord } from './orphan-claim.ts';
import { writeMarker } from './orphan-marker.ts';
import type { MachinePlace } from './place-machine.ts';
import { forwardPorts } from './port-forward.ts';
import { type ProcessMark, type Recorder, type Survival, type VmRecord, writeRecord } from './record.ts';
import { writeRecordPointer } from './record-pointer.ts';
import { reclaim } from './reclaim.ts';
import { hasTaps, rejoinNics } from './rejoin-nics.ts';
import { plugCablesIn, pullCables } from './renew-addresses.ts';
import { settleMachine } from './settle-machine.ts';
import { factsOf, isMachineOf, ownerOf } from './survival.ts';
import { screenOf } from './vm-screen.ts';
import { beginScope } from './vm-scope.ts';

/** How long QEMU may take to answer a new client. */
const QMP_MS = 10_000;
const UNDO_MS = 10_000;

/** A guest that runs already, and the way to leave it to the next shim after all. */
export interface AdoptedMachine {
  readonly machine: Machine;
  readonly recorder: Recorder;
  /** For its next boots. */
  readonly nicPlans: readonly NicPlan[];
  /** Undoes all that the record names. */
  readonly release: () => Promise<void>;
  /** Lets go of the guest, which waits on. */
  abandon(): Promise<void>;
}

export interface AdoptionDeps extends MachineDeps {
  readonly spawnKeeper: (record: VmRecord) => void;
}

/**
 * Takes over the guest that a dead shim of the same pod has left running. The guest notices nothing; what its shim did for
 * it begins anew. A guest that is not what the container asks for is shut down first.
 * @returns undefined where there is none to take over, so that a machine has to be made.
 */
export async function adoptMachine(
  deps: AdoptionDeps,
  request: MachineRequest,
  signal: AbortSignal,
): Promise<AdoptedMachine | undefined> {
  const { log } = deps;
  const { spec, config, rootfs } = request;
  const names = vmNames(config.stateDir, spec.namespace, spec.id);
  const nics = await planNics(deps, spec, { ...request, stateDir: config.stateDir }, signal);
  const fits = (record: VmRecord): boolean =>
    record.survival !== undefined &&
    isMachineOf(record.survival, spec, rootfs.mounts) &&
    sameCards(record.nics, nics) &&
    hasDirectories(deps, record, spec.shared) &&
    hasTaps(deps, record);
  for (;;) {
    const claim = await claimOrphan(deps, { owner: ownerOf(spec), config, fits });
    if (claim.kind === 'none') return undefined;
    if (claim.kind === 'ending') {
      log.info('the VM of this pod is being shut down; its next boot waits for that', { id: spec.id });
      await whenEnded(deps, claim.record, claim.keeper, signal);
      continue;
    }
    let { record } = claim;
    if (claim.fits) {
      const adopted = await takeOver(deps, { request, names, nics }, record, signal);
      if (adopted !== undefined) return adopted;
      record = { ...record, runDir: names.runDir };
    } else
      log.warn('the VM of this pod runs on, but cannot be what its container asks for now', { id: spec.id });
    await shutDownOrphan(deps, record, record.survival?.graceMs ?? 0, signal);
    signal.throwIfAborted();
    await cleanUpTask(deps, `${record.runDir}/record.json`, AbortSignal.timeout(UNDO_MS));
    return undefined;
  }
}

async function whenEnded(
  { host, native }: MachineDeps,
  { bootId }: VmRecord,
  mark: ProcessMark,
  signal: AbortSignal,
): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = (): void => reject(VmError.from(signal.reason, 'waiting for the pod’s old VM to end'));
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  using end = watchProcessEnd(host, native, { ...mark, bootId });
  await Promise.race([end.ended, promise]).finally(() => signal.removeEventListener('abort', abort));
}

interface TakeOver {
  readonly request: MachineRequest;
  readonly names: VmNames;
  readonly nics: readonly NicPlan[];
}

/** @returns undefined for a guest that has ended meanwhile. What fails leaves it to the next shim. */
async function takeOver(
  deps: AdoptionDeps,
  { request, names, nics: wanted }: TakeOver,
  found: VmRecord,
  signal: AbortSignal,
): Promise<AdoptedMachine | undefined> {
  const { host, native, log } = deps;
  const { spec, config, bundle, timeline } = request;
  const { survival, qemu: mark } = found;
  if (survival === undefined || mark === undefined) return undefined;
  const { stateDir } = config;
  if (found.runDir !== names.runDir) await reclaim(deps, names.record, signal);
  const nics = adoptedNics(found.nics, wanted);
  writeRecordPointer(host, bundle, names.record);
  let record = moveRecord(deps, found, names, {
    id: spec.id,
    namespace: spec.namespace,
    name: spec.name,
    pod: podNameOf(spec.owner),
    bundle,
    nics,
    mountPoint: undefined,
    progress: undefined,
    shimSocket: request.shimSocket,
  });
  const update = (change: Partial<VmRecord>): void => {
    record = { ...record, ...change };
    writeRecord(host, record);
  };
  writeMarker(host, stateDir, survival.owner, record.runDir);
  await using undo = new AsyncDisposableStack();
  let answers = false;
  const leave = async (): Promise<void> => {
    // As long as somebody tries, a guest that lives may wait for what is wrong with its node. One whose QEMU hangs would keep
    // its pod from starting for ever.
    const waiting = answers ? undefined : found.orphan;
    const orphan = waiting === undefined ? orphanNow(survival.deadlineMs) : { ...waiting, keeper: undefined };
    update({ shim: undefined, orphan });
    writeMarker(host, stateDir, survival.owner, record.runDir);
    await leaveOrphan(deps, names.record, deps.spawnKeeper, AbortSignal.timeout(UNDO_MS));
  };
  undo.defer(leave);
  // The dead shim's.
  host.remove(names.controlSocket);
  const cgroup = await moveCgroup(deps, request, record, update, signal);
  const limit = AbortSignal.any([signal, AbortSignal.timeout(QMP_MS)]);
  const qemu = await QemuProcess.adopt(host, {
    identity: { ...mark, bootId: record.bootId },
    qmpPath: names.qmpSocket,
    log: new QemuLog(host, names.qemuLog, survival.logStart),
    signal: limit,
  }).catch((error: unknown) => {
    throw silentQemu(VmError.from(error), found);
  });
  undo.defer(() => qemu.qmp.close());
  const { status } = await queryStatus(qemu.qmp, { signal: limit });
  answers = true;
  if (['shutdown', 'guest-panicked', 'internal-error', 'watchdog'].includes(status)) {
    undo.move();
    qemu.qmp.close();
    return undefined;
  }
  const place = await movePlace(deps, record, { old: found.key, plan: survival.plan }, signal);
  const settled = await settleMachine(deps, { place, qemu, cgroup, key: names.key }, spec.resources, signal);
  const vcpus = await growTo(qemu, spec, survival, limit);
  const kind = { accel: factsOf(survival).accel, cards: nics.length };
  const ram = {
    ...(await adoptedRam(qemu.qmp, spec, survival, limit)),
    held: claimedBytes(place.numa.claim) - (survival.memory?.started ?? spec.memoryBytes),
    hold: holdMemory(host, {
      ...{ spec, config, key: names.key, cgroup, kind, ledger: place.ledger, claim: place.numa.claim },
      record: (numa) => update({ numa }),
    }),
  };
  const services = undo.use(new DisposableStack());
  await pullCables(qemu.qmp, nics, limit);
  await rejoinNics(deps, qemu, nics, signal);
  const dhcp = services.use(answerDhcp(deps, nics, spec.guestData.hostname));
  const directories = services.use(adoptDirectories(deps, record, spec.shared, qemu));
  const forward = services.use(forwardPorts(deps, nics, request.netns));
  const onTold = (): void => update({ nics: nics.map(told) });
  services.use(announceArrival({ native, log, qmp: qemu.qmp, dhcp, id: spec.id }, nics));
  services.use(plugCablesIn({ qmp: qemu.qmp, log, id: spec.id, onTold }, nics));
  for (const { card, booted, now } of changedAddresses(nics))
    log.info('the guest’s addresses are others than it booted with', { id: spec.id, card, booted, now });
  const waited = Date.now() - (record.orphan?.since ?? Date.now());
  update({ orphan: undefined });
  log.info('took over the running guest of a shim that has died', {
    id: spec.id,
    qemu: mark.pid,
    was: found.id,
    waitedMs: waited,
  });
  const facts = factsOf(survival);
  const release = async (): Promise<void> => {
    await cleanUpTask(deps, names.record, AbortSignal.timeout(UNDO_MS));
  };
  const machine = new Machine({
    spec,
    names,
    consoleLog: `${record.logDir}/console.log`,
    facts: { ...facts, warnings: [...facts.warnings, ...forward.warnings], cgroup },
    qemu,
    vcpus,
    ram,
    screen: spec.hardware.video === 'none' ? undefined : screenOf(deps, qemu.qmp, names.vncSocket),
    services,
    nicStatus: (signal) => readNicStatus(host, nics, dhcp, signal),
    timeline,
    log,
    oomKilled: () => (readCgroupStats(host, cgroup).memory?.oomKills ?? 0) > 0,
    lostDirectories: directories.lost,
    recordExit: (exit) => update({ exit }),
    nicCounters: () => readNicCounters(host, native, nics.map(countedNic)),
    guestFigures: (signal) => readGuestFigures(host, qemu, signal),
    limitCpu: settled.limitCpu,
    release,
  });
  // Where an annotation says how much it starts with, a limit that was changed meanwhile cannot be told from the first one.
  if (spec.memoryLimitBytes === spec.memoryBytes)
    await limitAgain(machine, undefined, spec.memoryLimitBytes, log, limit);
  const owned = undo.move();
  const recorder: Recorder = {
    get record() {
      return record;
    },
    update,
  };
  return { machine, recorder, nicPlans: nics.map(atBoot), release, abandon: () => owned.disposeAsync() };
}

function silentQemu(error: VmError, { qemu, orphan }: VmRecord): VmError {
  const end =
    orphan === undefined ? 'it is ended' : `it is ended at ${new Date(orphan.deadline).toISOString()}`;
  const sentence = `the pod’s guest runs on, but its QEMU, process ${qemu?.pid}, does not answer; unless it does, ${end}, and the container can start anew`;
  return new VmError(error.kind, `${sentence}: ${error.message}`, { cause: error });
}

/** What RAM the machine was started with and can have, which its container may ask for in other parts now. */
async function adoptedRam(
  qmp: QmpExecutor,
  { memoryBytes }: VmSpec,
  { memory = { started: memoryBytes, places: memoryBytes } }: Survival,
  signal: AbortSignal,
): Promise<Pick<LiveMemoryParts, 'base' | 'room' | 'plugged'>> {
  const room = memory.places - memory.started;
  const plugged = room > 0 ? await queryPlugged(qmp, { signal }) : { requested: 0, size: 0 };
  return { base: memory.started, room, plugged };
}

/** kubelet may have raised the limit while nobody was there to plug them. @returns how many vCPUs the machine has. */
async function growTo(
  { qmp }: QemuProcess,
  { vcpus }: VmSpec,
  { vcpus: had }: Survival,
  signal: AbortSignal,
): Promise<number> {
  if (had === undefined || had.places === had.started) return had?.started ?? vcpus;
  return await plugVcpus(qmp, vcpus, { signal });
}

/**
 * A pod's cgroup is named by its UID, so the VM's own stays where it is: what it has used is accounted there, and memory does
 * not move with a process. Only another parent is followed.
 */
async function moveCgroup(
  { host, native }: MachineDeps,
  { spec, config }: MachineRequest,
  record: VmRecord,
  update: (change: Partial<VmRecord>) => void,
  signal: AbortSignal,
): Promise<Cgroup> {
  const layout = detectCgroupLayout(host);
  const old = planCgroup(layout, record.cgroup, record.key);
  const wanted = planCgroup(layout, spec.cgroupsPath, record.key);
  const wholeOld = wholeCgroup(old);
  if (record.qemu === undefined || dirname(wholeCgroup(wanted).path) === dirname(wholeOld.path)) return old;
  update({ cgroup: wanted.path });
  await beginScope(host, wanted, record.key, signal).made;
  createCgroup(host, wanted);
  const accel = record.survival === undefined ? 'tcg' : factsOf(record.survival).accel;
  // It may have been given more than its container asks for now.
  const memoryBytes = Math.max(
    spec.memoryBytes,
    record.numa === undefined ? 0 : claimedBytes(record.numa.claim),
  );
  if (config.limitMemory)
    limitVmMemory(host, wanted, { ...spec, memoryBytes }, { accel, cards: record.nics.length });
  // QEMU, and those that serve it directories.
  for (const pid of cgroupPids(host, old)) joinCgroup(host, wanted, pid);
  // Who holds its scope.
  if (wholeOld !== old) await killCgroup(host, native, wholeOld, signal);
  await removeCgroup(host, wholeOld, signal);
  return wanted;
}

/** The books know a VM by its key, which goes with its id. */
async function movePlace(
  { host, native, log }: MachineDeps,
  { numa, key, name, qemu, bootId, runDir }: VmRecord,
  { old, plan }: { readonly old: string; readonly plan: NumaPlan },
  signal: AbortSignal,
): Promise<MachinePlace> {
  if (numa?.ledger === undefined || qemu === undefined)
    return { plan, numa: numa ?? { ledger: undefined, claim: plan.claim }, ledger: undefined };
  const books = numaBooks(host, dirname(runDir), (sentence) => log.warn(sentence));
  const ledger = { ...books, native, path: numa.ledger };
  const entry = { claim: numa.claim, result: undefined };
  await enter(ledger, { key, name, owner: { ...qemu, bootId } }, () => entry, signal);
  if (old !== key) await leave(ledger, old, signal);
  return { plan, numa, ledger };
}
