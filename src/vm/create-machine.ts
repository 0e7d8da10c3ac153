import { describeError, VmError } from '../core/errors.ts';
import type { Config } from '../core/config.ts';
import type { FirmwareKind } from '../core/vm-spec.ts';
import { createCgroup, joinCgroup } from '../host/cgroup.ts';
import { applyCpuResources } from '../host/cgroup-cpu.ts';
import { detectCgroupLayout } from '../host/cgroup-layout.ts';
import { type Cgroup, planCgroup } from '../host/cgroup-plan.ts';
import { readCgroupStats } from '../host/cgroup-stats.ts';
import type { OwnedFd } from '../host/host.ts';
import { setOomScore } from '../host/oom-score.ts';
import { ownFd } from '../host/owned-fd.ts';
import { type AccelVerdict, detectAccel } from '../qemu/accel.ts';
import { expectNesting } from '../qemu/nesting.ts';
import { growthRoom } from '../qemu/plan-growth.ts';
import { planQemu, type QemuCommand } from '../qemu/plan.ts';
import { QemuProcess } from '../qemu/process.ts';
import type { Firmware } from '../qemu/qemu-input.ts';
import { type QemuVersion, readQemuVersion } from '../qemu/qemu-version.ts';
import { readNicCounters } from '../net/nic-counters.ts';
import { beginRecord } from './begin-record.ts';
import { type BootFiles, openBootFiles } from './boot-files.ts';
import type { AdoptedMachine } from './adopt-machine.ts';
import { checkCapacity } from './capacity.ts';
import { cleanUpTask } from './clean-up.ts';
import { limitVmMemory } from './limit-memory.ts';
import { Machine } from './machine.ts';
import { facts } from './machine-facts.ts';
import type { MachineDeps, MachineRequest } from './machine-request.ts';
import { holdMemory } from './memory-hold.ts';
import { readGuestFigures } from './guest-figures.ts';
import { answerDhcp, type GuestNics, plugNics } from './guest-nics.ts';
import { keptPower } from './kept-power.ts';
import { KEY_VARIABLE } from './marked-process.ts';
import { countedNic, type NicPlan, planNics } from './nic-plan.ts';
import { readNicStatus } from './nic-status.ts';
import { forwardPorts } from './port-forward.ts';
import { type VmNames, vmNames } from './names.ts';
import { makeOwnDirectory } from './own-directory.ts';
import { type MachinePlace, placeMachine } from './place-machine.ts';
import { survivalOf } from './survival.ts';
import { openScreen } from './vm-screen.ts';
import { NO_SHARED, type SharedDirectories } from './shared-directories.ts';
import { NO_DISKS, type VmDisks } from './vm-disks.ts';
import { writeMarker } from './orphan-marker.ts';
import { qemuNetwork } from './qemu-network.ts';
import { reclaim } from './reclaim.ts';
import type { PowerRecord, Recorder, VmRecord } from './record.ts';
import { Timeline } from './timeline.ts';
import { openFreed } from './open-freed.ts';
import { unplugMachine } from './unplug-machine.ts';
import { Vm } from './vm.ts';
import { beginScope } from './vm-scope.ts';
import { ownCpuset, settleMachine } from './settle-machine.ts';

/** Clean-up of a failed start; a killed QEMU is gone within milliseconds, its cgroup a little later. */
const UNDO_MS = 10_000;

/**
 * Makes a VM up to the point before its first instruction: disk opened, QEMU started with `-S`, placed in its cgroup,
 * answering QMP. The record is written before each effect; whatever fails, or `signal`, undoes it from the record.
 * @throws VmError of any kind with one sentence for the user.
 */
export async function createMachine(
  deps: MachineDeps,
  request: MachineRequest,
  signal: AbortSignal,
): Promise<Vm> {
  const { host, native, log } = deps;
  const { spec, config } = request;
  const names = vmNames(config.stateDir, spec.namespace, spec.id);
  checkCapacity(host, spec);
  const cgroup = planCgroup(detectCgroupLayout(host), spec.cgroupsPath, names.key);
  makeOwnDirectory(host, { key: 'state_dir', value: config.stateDir });
  const found = await findQemu(deps, request, signal);
  if (spec.nested && found.accel.accel === 'kvm') expectNesting(host);

  await reclaim(deps, names.record, signal);
  const nicPlans = await planNics(deps, spec, { ...request, stateDir: config.stateDir }, signal);
  await using undo = new AsyncDisposableStack();
  const release = async (): Promise<void> => {
    await cleanUpTask({ host, native }, names.record, AbortSignal.timeout(UNDO_MS));
  };
  undo.defer(async () => {
    // What it throws would stand in front of the reason why the VM was not made; `delete` tries again.
    await release().catch((error: unknown) =>
      log.error('a VM that was not made is not cleaned up either', {
        id: spec.id,
        error: describeError(error),
      }),
    );
  });
  makeOwnDirectory(host, { key: 'data_dir', value: config.dataDir });
  const recorder = beginRecord(deps, request, names, cgroup, nicPlans);
  const parts = { request, names, cgroup, nicPlans, recorder, release, find: () => Promise.resolve(found) };
  const machine = await bootMachine(deps, parts, signal);
  undo.move();
  return vmOf(deps, parts, machine, undefined);
}

/** A VM around the guest of another shim. */
export function adoptedVm(deps: MachineDeps, request: MachineRequest, adopted: AdoptedMachine): Vm {
  const { machine, recorder, nicPlans, release } = adopted;
  const { spec, config } = request;
  const { machineType, cgroup } = machine.facts;
  const find: BootParts['find'] = async (signal) => {
    const { accel, version } = await findQemu(deps, { spec, config }, signal);
    // The same board as before, whatever has been installed since.
    return { accel, version: spec.machine === 'q35' ? { ...version, q35: machineType } : version };
  };
  const parts = { request, names: machine.names, cgroup, nicPlans, recorder, release, find };
  return vmOf(deps, parts, machine, recorder.record.power);
}

async function findQemu(
  { host }: MachineDeps,
  { spec, config }: Pick<MachineRequest, 'spec' | 'config'>,
  signal: AbortSignal,
): Promise<FoundQemu> {
  const place = { stateDir: config.stateDir, signal };
  const [accel, version] = await Promise.all([
    detectAccel(host, spec.accel, place),
    readQemuVersion(host, config.qemu, place),
  ]);
  return { accel, version };
}

/** A VM around its first machine, with all that its next ones need. */
function vmOf(deps: MachineDeps, parts: BootParts, machine: Machine, earlier: PowerRecord | undefined): Vm {
  const { host, log } = deps;
  const { request, names, recorder, release } = parts;
  const { spec, config } = request;
  return new Vm({
    spec,
    log,
    machine,
    earlier,
    boot: (signal) =>
      bootMachine(deps, { ...parts, request: { ...request, timeline: new Timeline() } }, signal),
    unplug: () => unplugMachine(deps, recorder.record, names, AbortSignal.timeout(UNDO_MS)),
    record: (power, noQemu) =>
      recorder.update({ power, ...(noQemu && { qemu: undefined, exit: undefined }) }),
    kept: keptPower(host, spec.owner, { dataDir: config.dataDir, id: spec.id, namespace: spec.namespace }),
    release,
  });
}

interface FoundQemu {
  readonly accel: AccelVerdict;
  readonly version: QemuVersion;
}

/** What all machines of a VM have in common. */
interface BootParts {
  readonly request: MachineRequest;
  readonly names: VmNames;
  readonly cgroup: Cgroup;
  readonly nicPlans: readonly NicPlan[];
  readonly recorder: Recorder;
  /** What the host has to run it with. */
  readonly find: (signal: AbortSignal) => Promise<FoundQemu>;
  /** Undoes all that the record names. */
  readonly release: () => Promise<void>;
}

/**
 * One QEMU of a VM, the first or a later one. Whatever of it outlives a crash of ours is in the record before it is made.
 * A failure ends QEMU; `unplugMachine`, or the clean-up of the whole VM, takes away the rest.
 */
async function bootMachine(deps: MachineDeps, boot: BootParts, signal: AbortSignal): Promise<Machine> {
  const { host, native, log } = deps;
  const { request, names, cgroup, nicPlans, recorder, release } = boot;
  const { spec, config, timeline } = request;
  const { accel, version } = await boot.find(signal);
  await using undo = new AsyncDisposableStack();
  const place = await placeMachine(
    deps,
    { spec, config, key: names.key, cgroup, record: (numa) => recorder.update({ numa }) },
    signal,
  );
  // systemd makes it while we open the disks.
  const scope = undo.use(beginScope(host, cgroup, names.key, signal));

  using files = await openFreed(
    () => openBootFiles(deps, request, (change) => recorder.update(change), signal),
    { deps, recorder, signal },
  );
  timeline.mark('disk-ready');
  const hasRootDisk = files.disk !== undefined;
  const record = (made: VmRecord['disks']): void => recorder.update({ disks: made });
  // A bundle of its own as well: most VMs have none.
  const vmDisks = spec.disks.length === 0 ? undefined : await import('./open-vm-disks.ts');
  using disks =
    vmDisks === undefined
      ? NO_DISKS
      : await openFreed(() => vmDisks.openVmDisks(deps, request, names.runDir, record, signal), {
          deps,
          recorder,
          signal,
        });
  const { volumes } = disks;
  const drivePlace = { runDir: names.runDir, dataDir: config.dataDir, hasRootDisk, volumes };
  // A bundle of its own, which its code cache holds compiled; nothing else of a VM's start needs as much code once.
  const { makeGuestDrive } = await import('./guest-drive.ts');
  using guestDrive = await makeGuestDrive(host, spec, drivePlace, nicPlans);
  timeline.mark('guest-data-ready');
  await scope.made;
  createCgroup(host, cgroup);
  // Before QEMU is in it, so that whatever it allocates comes from there.
  applyCpuResources(host, cgroup, ownCpuset(place));
  const kind = { accel: accel.accel, cards: nicPlans.length };
  const scarce = config.limitMemory ? limitVmMemory(host, cgroup, spec, kind) : undefined;
  using nics = await plugNics(deps, nicPlans, { spec, uid: names.uid, stateDir: config.stateDir }, signal);
  const sharing = spec.shared.length === 0 ? undefined : await import('./share-directories.ts');
  using shared =
    (await sharing?.shareDirectories(deps, request, names, cgroup, recorder, signal)) ?? NO_SHARED;
  const parts = {
    request,
    names,
    cgroup,
    files,
    disks,
    shared,
    guestDrive,
    nics,
    accel,
    version,
    recorder,
    place,
  };
  const oomKills = (): number => readCgroupStats(host, cgroup).memory?.oomKills ?? 0;
  const oomKillsBefore = oomKills();
  const qemu = undo.use(
    await startQemu(deps, parts, signal).catch(async (error: unknown) => {
      throw await shared.explain(disks.explain(error));
    }),
  );
  shared.watch(qemu);
  const screen =
    spec.hardware.video === 'none' ? undefined : await openScreen(deps, qemu.qmp, names.vncSocket, signal);
  const settled = await settleMachine(deps, { place, qemu, cgroup, key: names.key }, spec.resources, signal);
  const services = undo.use(new DisposableStack());
  const dhcp = services.use(answerDhcp(deps, nicPlans, spec.guestData.hostname));
  const forward = services.use(forwardPorts(deps, nicPlans, request.netns));
  const diskFacts = (await disks.remote?.facts(qemu.qmp, { signal })) ?? disks.facts;
  const told = facts({
    files,
    disks: { ...disks, facts: diskFacts },
    shared,
    accel,
    version,
    cgroup,
    spec,
    qemu,
    nics,
    forward,
    place,
    scarce,
  });
  // Last: until here what is left by a shim that dies is no guest yet.
  const made = { facts: told, logStart: qemu.log.start, plan: place.plan };
  const survival = survivalOf(host, request, made);
  recorder.update({ survival, nics: nicPlans });
  if (survival !== undefined) writeMarker(host, config.stateDir, survival.owner, names.runDir);
  undo.move();
  return new Machine({
    spec,
    names,
    consoleLog: `${recorder.record.logDir}/console.log`,
    facts: told,
    qemu,
    vcpus: spec.vcpus,
    ram: {
      base: spec.memoryBytes,
      room: growthRoom(spec, place.plan.ram),
      plugged: { requested: 0, size: 0 },
      held: 0,
      hold: holdMemory(host, {
        ...{ spec, config, key: names.key, cgroup, kind, ledger: place.ledger, claim: place.numa.claim },
        record: (numa) => recorder.update({ numa }),
      }),
    },
    screen,
    services,
    nicStatus: (signal) => readNicStatus(host, nicPlans, dhcp, signal),
    timeline,
    log,
    oomKilled: () => oomKills() > oomKillsBefore,
    lostDirectories: shared.lost,
    recordExit: (exit) => recorder.update({ exit }),
    nicCounters: () => readNicCounters(host, native, nicPlans.map(countedNic)),
    guestFigures: (signal) => readGuestFigures(host, qemu, signal),
    limitCpu: settled.limitCpu,
    release,
  });
}

interface QemuParts {
  readonly request: MachineRequest;
  readonly names: VmNames;
  readonly cgroup: Cgroup;
  readonly files: BootFiles;
  readonly disks: VmDisks;
  readonly shared: SharedDirectories;
  readonly guestDrive: OwnedFd | undefined;
  readonly nics: GuestNics;
  readonly accel: AccelVerdict;
  readonly version: QemuVersion;
  readonly recorder: Recorder;
  readonly place: MachinePlace;
}

async function startQemu(
  { host, native }: MachineDeps,
  parts: QemuParts,
  signal: AbortSignal,
): Promise<QemuProcess> {
  const { request, names, files, disks, shared, guestDrive, nics, accel, version } = parts;
  const { spec, config, timeline } = request;
  const command = planQemu({
    spec,
    accel: accel.accel,
    machineType: spec.machine === 'microvm' ? 'microvm' : version.q35,
    ram: parts.place.plan.ram,
    rootDisk: files.disk,
    guestDrive: guestDrive !== undefined,
    volumes: disks.volumes,
    nics: nics.nics,
    firmware: planFirmware(spec.firmware, config),
    aio: 'threads',
  });
  using sockets = new DisposableStack();
  const listen = (path: string): number => sockets.use(ownFd(native.listenUnix(path, 8))).fd;
  const ours = new Map([
    ...files.fds,
    ...disks.fds,
    ...shared.fds,
    ...nics.fds,
    ...(guestDrive === undefined ? [] : [['guest-drive', guestDrive.fd] as const]),
    ['qmp', listen(names.qmpSocket)],
    ['console', listen(names.consoleSocket)],
  ]);
  const qemu = await QemuProcess.start(host, {
    file: config.qemu,
    command,
    fds: descriptors(command, ours),
    fdOwner: {
      [Symbol.dispose]: () => {
        sockets.dispose();
        files[Symbol.dispose]();
        disks[Symbol.dispose]();
        shared[Symbol.dispose]();
        guestDrive?.[Symbol.dispose]();
        nics[Symbol.dispose]();
      },
    },
    qmpPath: names.qmpSocket,
    logPath: names.qemuLog,
    env: { [KEY_VARIABLE]: names.key },
    cwd: '/',
    uid: names.uid,
    gid: accel.kvmGid ?? names.uid,
    network: qemuNetwork(request, disks),
    // librados can wait for ever, and QEMU does nothing else meanwhile: its end is then a signal.
    signal: withDeadline(signal, disks.remote?.deadlineMs),
    onSpawn: ({ pid, startTime }) => {
      timeline.mark('qemu-spawned');
      // Before the record is on disk, which knows the cgroup already: QEMU is not to get anywhere outside of it. The
      // kernel's vhost threads stay where QEMU was when it asked for them (before Linux 6.4).
      joinCgroup(host, parts.cgroup, pid);
      parts.recorder.update({ qemu: { pid, startTime }, numa: parts.place.numa });
      setOomScore(host, pid, spec.oomScoreAdj);
    },
  });
  timeline.mark('qmp-ready');
  return qemu;
}

function withDeadline(signal: AbortSignal, ms: number | undefined): AbortSignal {
  return ms === undefined ? signal : AbortSignal.any([signal, AbortSignal.timeout(ms)]);
}

function planFirmware(kind: FirmwareKind, { firmware }: Config): Firmware {
  switch (kind) {
    case 'bios':
      return { kind };
    case 'uefi':
      return { kind, codePath: firmware.uefiCode };
    case 'uefi-secure':
      return { kind, codePath: firmware.uefiSecureCode };
  }
}

function descriptors(command: QemuCommand, ours: ReadonlyMap<string, number>): number[] {
  return command.fds.map((role) => {
    const fd = ours.get(role);
    if (fd === undefined)
      throw new VmError('Internal', `QEMU's plan wants a descriptor "${role}" that nobody opened`);
    return fd;
  });
}
