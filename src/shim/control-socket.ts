import { randomUUID } from 'node:crypto';
import { createServer } from 'node:net';
import {
  CONTROL_SERVICE,
  controlService,
  type NetworkStatus,
  type PowerAsk,
  type PowerStatus as WirePowerStatus,
  type VmStatus,
} from '../control/control-service.ts';
import { describeExit } from '../core/exit.ts';
import type { Native } from '../host/native.ts';
import { TtrpcServer } from '../ttrpc/server.ts';
import type { NicStatus } from '../vm/nic-status.ts';
import { VmError } from '../core/errors.ts';
import { isStalled, type MachineState } from '../vm/machine-state.ts';
import type { PowerBook } from '../vm/power-book.ts';
import { parsePowerRequest, type PowerStatus } from '../vm/power-request.ts';
import { VERSION } from '../vm/version.ts';
import { nicTraffic } from './nic-traffic.ts';
import type { VmTask } from './vm-task.ts';

const BACKLOG = 16;

/** Serves `vmctl` on the VM's own socket, which only root can reach; disposing ends it. */
export async function serveControl(native: Native, task: VmTask): Promise<AsyncDisposable> {
  const server = new TtrpcServer();
  server.addService(
    CONTROL_SERVICE,
    controlService({
      status: () => statusOf(task),
      watch: (changed) => task.vm.changed.listen(changed),
      network: async (signal) => networkOf(await task.machine.nicStatus(signal)),
      attach: (options) => task.hub.attach(options),
      figures: async (signal) => {
        const { balloonBytes, memory, disks, vcpus } = await task.machine.guestFigures(signal);
        return {
          balloonBytes: balloonBytes ?? 0,
          memory: memory ?? null,
          disks: [...disks],
          vcpus: [...vcpus],
        };
      },
      screenshot: (signal) => task.machine.screenshot(signal),
      resume: (signal) => task.resume(signal),
      power: (request, signal) => askPower(task.vm.book, request, signal),
    }),
  );
  const listener = createServer();
  server.serve(listener);
  const { promise, resolve } = Promise.withResolvers<undefined>();
  listener.listen({ fd: native.listenUnix(task.machine.names.controlSocket, BACKLOG) }, () =>
    resolve(undefined),
  );
  await promise;
  return {
    [Symbol.asyncDispose]: async () => {
      listener.close();
      await server.close();
    },
  };
}

async function askPower(book: PowerBook, ask: PowerAsk, signal: AbortSignal): Promise<WirePowerStatus> {
  const { status, settled } = book.ask(parsePowerRequest(ask, randomUUID));
  return wireStatus(ask.wait ? await settledOr(settled, signal) : status);
}

/** A caller that goes away takes nothing back. */
async function settledOr(settled: Promise<PowerStatus>, signal: AbortSignal): Promise<PowerStatus> {
  const gone = Promise.withResolvers<never>();
  const leave = (): void => gone.reject(VmError.from(signal.reason));
  signal.addEventListener('abort', leave, { once: true });
  try {
    signal.throwIfAborted();
    return await Promise.race([settled, gone.promise]);
  } finally {
    signal.removeEventListener('abort', leave);
  }
}

function wireStatus({ id, action, phase, message, at }: PowerStatus): WirePowerStatus {
  return { id, action, phase, message, atMs: at };
}

/** What `PowerState` and the machine's state come to for people. */
function powerOf({ vm: { power, machine } }: VmTask): Pick<VmStatus, 'powerState' | 'powerReason'> {
  switch (power.t) {
    case 'on':
      return { powerState: ON[machine.state.t], powerReason: '' };
    case 'off':
      return { powerState: 'off', powerReason: power.why };
    case 'ended':
      return { powerState: 'off', powerReason: describeExit(power.exit.reason) };
    case 'stopping':
    case 'starting':
      return { powerState: power.t, powerReason: '' };
  }
}

const ON: Readonly<Record<MachineState['t'], string>> = {
  creating: 'starting',
  prelaunch: 'starting',
  running: 'on',
  paused: 'paused',
  ending: 'stopping',
  exited: 'stopping',
};

function stateName({ vm: { power, machine }, status }: VmTask): string {
  const { state } = machine;
  if (power.t === 'off' && status !== 'stopped') return 'off';
  if (power.t === 'on' && power.held) return 'paused';
  return isStalled(state) ? `paused (I/O error: ${state.trouble?.reason ?? ''})` : status;
}

function statusOf(task: VmTask): VmStatus {
  const { vm, machine, request, exit, timeline } = task;
  const { spec, facts, state } = machine;
  return {
    id: spec.id,
    namespace: spec.namespace,
    name: spec.name,
    state: stateName(task),
    shimPid: process.pid,
    qemuPid: state.t === 'exited' ? 0 : machine.pid,
    vcpus: machine.vcpus,
    memoryBytes: machine.memory.bytes,
    maxMemoryBytes: machine.memory.most,
    machine: facts.machineType,
    accel: facts.accel,
    accelReason: facts.accelReason,
    firmware: spec.firmware,
    network: facts.network,
    numa: facts.numa,
    uuid: spec.uuid,
    rootDisk: facts.rootDisk,
    consoleLog: machine.consoleLog,
    createdAtMs: Math.round(timeline.at('created') ?? 0),
    startedAtMs: Math.round(machine.timeline.at('continued') ?? 0),
    exitedAtMs: exit?.at ?? 0,
    exitStatus: exit?.status ?? 0,
    exitReason: exit === undefined ? '' : describeExit(exit.reason),
    warnings: machine.warnings,
    timeline: timeline.entries(),
    shimVersion: VERSION,
    bundle: request.bundle,
    qemuVersion: facts.qemuVersion,
    traffic: machine.nicCounters().map(nicTraffic),
    vncSocket: machine.vncSocket ?? '',
    shared: facts.shared.map((directory) => ({ ...directory })),
    power: vm.book.last === undefined ? null : wireStatus(vm.book.last),
    ...powerOf(task),
    disks: facts.disks.map(({ size, ...disk }) => ({ ...disk, sizeBytes: size })),
  };
}

function networkOf(nics: readonly NicStatus[]): NetworkStatus {
  return {
    nics: nics.map(({ tap, guest, bootedWith, guard, dhcp }) => ({
      ifName: guest.ifName,
      tap,
      mac: guest.mac,
      addresses: guest.addresses.map(({ address, prefixLength }) => `${address}/${prefixLength}`),
      bootedWith: [...bootedWith],
      nameservers: [...guest.dns.nameservers],
      guard: guard.kind,
      guardProblem: guard.kind === 'unknown' ? guard.reason : '',
      dropped: guard.kind === 'on' ? counts(guard.dropped) : [],
      dhcp: counts(dhcp),
    })),
  };
}

function counts(counters: Readonly<Record<string, number | undefined>>): { name: string; value: number }[] {
  return Object.entries(counters).flatMap(([name, value = 0]) => (value > 0 ? [{ name, value }] : []));
}
