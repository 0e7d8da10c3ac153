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
import { Bell } from '../core/bell.ts';
import { describeExit } from '../core/exit.ts';
import type { Native } from '../host/native.ts';
import { TtrpcServer } from '../ttrpc/server.ts';
import type { NicStatus } from '../vm/nic-status.ts';
import { VmError } from '../core/errors.ts';
import { isStalled } from '../vm/machine-state.ts';
import { PowerBook } from '../vm/power-book.ts';
import { parsePowerRequest, type PowerRequest, type PowerStatus } from '../vm/power-request.ts';
import { VERSION } from '../vm/version.ts';
import { nicTraffic } from './nic-traffic.ts';
import type { VmTask } from './vm-task.ts';

const BACKLOG = 16;

/** Serves `vmctl` on the VM's own socket, which only root can reach; disposing ends it. */
export async function serveControl(native: Native, task: VmTask): Promise<AsyncDisposable> {
  const server = new TtrpcServer();
  const power = new Bell();
  const book = new PowerBook({
    perform: (request) => perform(task, request),
    record: () => power.ring(),
    earlier: [],
  });
  server.addService(
    CONTROL_SERVICE,
    controlService({
      status: () => ({
        ...statusOf(task),
        power: book.last === undefined ? null : wireStatus(book.last),
      }),
      watch: (changed) => watchAll([task.machine.changed, power], changed),
      network: async (signal) => networkOf(await task.machine.nicStatus(signal)),
      attach: (options) => task.hub.attach(options),
      figures: async (signal) => {
        const { balloonBytes, disks, vcpus } = await task.machine.guestFigures(signal);
        return { balloonBytes: balloonBytes ?? 0, disks: [...disks], vcpus: [...vcpus] };
      },
      screenshot: (signal) => task.machine.screenshot(signal),
      resume: (signal) => task.resume(signal),
      power: (request, signal) => askPower(book, request, signal),
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

function watchAll(bells: readonly Bell[], changed: () => void): Disposable {
  const stack = new DisposableStack();
  for (const bell of bells) stack.use(bell.listen(changed));
  return stack;
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

async function perform(task: VmTask, { action }: PowerRequest): Promise<string> {
  const { signal } = new AbortController();
  switch (action) {
    case 'pause':
      await task.pause(signal);
      return '';
    case 'resume':
      await task.resume(signal);
      return '';
    case 'reset':
      await task.machine.reset(signal);
      return '';
    case 'nmi':
      await task.machine.nmi(signal);
      return '';
    case 'stop':
    case 'start':
    case 'reboot':
      throw new VmError('Unimplemented', `"${action}" comes with the next version`);
  }
}

function wireStatus({ id, action, phase, message, at }: PowerStatus): WirePowerStatus {
  return { id, action, phase, message, atMs: at };
}

function statusOf({ machine, request, status, exit }: VmTask): VmStatus {
  const { spec, facts, state, timeline } = machine;
  return {
    id: spec.id,
    namespace: spec.namespace,
    name: spec.name,
    state: isStalled(state) ? `paused (I/O error: ${state.trouble?.reason ?? ''})` : status,
    shimPid: process.pid,
    qemuPid: state.t === 'exited' ? 0 : machine.pid,
    vcpus: machine.vcpus,
    memoryBytes: spec.memoryBytes,
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
    startedAtMs: Math.round(timeline.at('continued') ?? 0),
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
    disks: facts.disks.map(({ size, ...disk }) => ({ ...disk, sizeBytes: size })),
  };
}

function networkOf(nics: readonly NicStatus[]): NetworkStatus {
  return {
    nics: nics.map(({ tap, guest, guard, dhcp }) => ({
      ifName: guest.ifName,
      tap,
      mac: guest.mac,
      addresses: guest.addresses.map(({ address, prefixLength }) => `${address}/${prefixLength}`),
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
