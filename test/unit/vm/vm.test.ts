import { mock } from 'node:test';
import t, { type Test } from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import type { PowerSpec } from '../../../src/core/power-spec.ts';
import type { ProcessExit } from '../../../src/host/host.ts';
import { QmpClient } from '../../../src/qemu/qmp-client.ts';
import type { MachineParts } from '../../../src/vm/machine-parts.ts';
import { Machine } from '../../../src/vm/machine.ts';
import { parsePowerRequest } from '../../../src/vm/power-request.ts';
import type { PowerRecord } from '../../../src/vm/record.ts';
import { Timeline } from '../../../src/vm/timeline.ts';
import { Vm } from '../../../src/vm/vm.ts';
import { FakeQemu } from '../../support/fake-qemu.ts';
import { recordingLogger } from '../../support/recording-logger.ts';

const signal = new AbortController().signal;
const SIGTERM = 15;
const SIGKILL = 9;
const ram = { memoryBytes: 1 << 30, maxMemoryBytes: 1 << 30, memoryFollowsLimit: true };
const usual: PowerSpec = { onPoweroff: 'exit', onReboot: 'restart', onCrash: 'exit' };

interface Qemu {
  readonly machine: Machine;
  readonly fake: FakeQemu;
  readonly end: (exit: ProcessExit) => void;
  killed: boolean;
}

/** A VM whose QEMUs are played at the wire. */
async function lab(t: Test, policies: Partial<PowerSpec> = {}, keptWhy?: string, earlier?: PowerRecord) {
  const log = recordingLogger();
  const power = { ...usual, ...policies };
  const qemus: Qemu[] = [];
  const records: { power: PowerRecord; noQemu: boolean }[] = [];
  const kept = { why: keptWhy };
  const trace: string[] = [];
  /** What a boot waits for, or fails with. */
  const boot: { gate: Promise<unknown> | undefined } = { gate: undefined };

  const make = async (): Promise<Machine> => {
    const fake = await FakeQemu.start(t);
    const qmp = await QmpClient.connect(fake.path);
    for (const name of ['cont', 'system_powerdown', 'stop', 'system_reset', 'quit', 'balloon'])
      fake.on(name, () => ({ return: {} }));
    fake.on('query-status', () => ({ return: { status: 'paused', running: false } }));
    const ended = Promise.withResolvers<ProcessExit>();
    const qemu: Qemu = {
      machine: undefined as unknown as Machine,
      fake,
      end: (exit) => ended.resolve(exit),
      killed: false,
    };
    const parts = {
      spec: { id: 'vm', name: 'vm', ...ram },
      facts: { warnings: [] },
      timeline: new Timeline(),
      log,
      qemu: {
        pid: 1000 + qemus.length,
        qmp,
        exited: ended.promise,
        log: { tail: () => [] },
        kill: () => {
          qemu.killed = true;
          ended.resolve({ kind: 'signaled', signal: SIGKILL });
        },
      },
      services: { [Symbol.dispose]: () => undefined },
      ram: { base: 1 << 30, room: 0, plugged: { requested: 0, size: 0 }, held: 0 },
      oomKilled: () => false,
      recordExit: () => undefined,
      limitCpu: () => trace.push('limits'),
    };
    const machine = new Machine(parts as unknown as MachineParts);
    Object.assign(qemu, { machine });
    qemus.push(qemu);
    t.teardown(async () => {
      ended.resolve({ kind: 'exited', code: 0 });
      await machine.exited;
      qmp.close();
    });
    return machine;
  };

  const vm = new Vm({
    spec: { id: 'vm', power, resources: {}, ...ram } as unknown as Vm['spec'],
    log,
    machine: await make(),
    earlier,
    boot: async (signal) => {
      trace.push('boot');
      const aborted = new Promise((_, reject) => {
        signal.addEventListener('abort', () => reject(VmError.from(signal.reason)), { once: true });
      });
      aborted.catch(() => undefined);
      if (boot.gate !== undefined) await Promise.race([boot.gate, aborted]);
      return await make();
    },
    unplug: () => {
      trace.push('unplug');
      return Promise.resolve();
    },
    record: (power, noQemu) => void records.push({ power, noQemu }),
    kept: {
      read: () => kept.why,
      write: (why) => {
        kept.why = why;
        trace.push(`kept ${why ?? 'nothing'}`);
      },
    },
    release: () => {
      trace.push('release');
      return Promise.resolve();
    },
  });
  t.teardown(() => vm.release());
  let asked = 0;
  const ask = (action: string, force = false) =>
    vm.book.ask(parsePowerRequest({ id: `r${asked++}`, action, graceSeconds: 0, force }, () => ''));
  return { vm, qemus, records, kept, trace, boot, log, ask };
}

const poweredOff = { event: 'SHUTDOWN', data: { guest: true, reason: 'guest-shutdown' } };
const panicked = { event: 'GUEST_PANICKED', data: { action: 'pause' } };

/** The guest of that QEMU ends itself, and QEMU with it. */
async function guestEnds({ fake, end, machine }: Qemu, event: object): Promise<void> {
  const quit = fake.arrival('quit');
  fake.send({ ...event, timestamp: { seconds: 1_700_000_000, microseconds: 0 } });
  await quit;
  end({ kind: 'exited', code: 0 });
  await machine.exited;
}

void t.test('off and on: in the record before, cleared before the next boot', async (t) => {
  const { vm, qemus, records, kept, trace, ask } = await lab(t);
  await vm.start(signal);
  t.equal(vm.pid, 1000);
  const pressed = qemus[0]!.fake.arrival('system_powerdown');
  const stop = ask('stop');
  await pressed;
  t.equal(vm.power.t, 'stopping');
  t.equal(kept.why, 'an operator stopped it', 'kept before the button is pressed');
  await guestEnds(qemus[0]!, poweredOff);
  t.match(await stop.settled, { phase: 'done', message: '' });
  t.match(vm.power, { t: 'off', why: 'an operator stopped it' });
  t.equal(vm.pid, process.pid);
  t.match(records.at(-2), { power: { state: { t: 'off' } }, noQemu: true });
  await vm.update({} as never, 1 << 29, signal);
  await t.rejects(vm.update({} as never, 2 ** 40, signal), { message: /memory cannot grow/ });

  const balloon = ask('start');
  t.match(await balloon.settled, { phase: 'done' });
  t.equal(vm.power.t, 'on');
  t.equal(vm.pid, 1001);
  t.equal(kept.why, undefined);
  t.same(trace, ['kept an operator stopped it', 'unplug', 'kept nothing', 'boot', 'limits']);
  t.same(
    qemus[1]!.fake.commands.map(({ execute }) => execute),
    ['qmp_capabilities', 'balloon', 'cont'],
    'it has what containerd has asked for meanwhile',
  );
});

void t.test('a signal ends the task whatever the power', async (t) => {
  await t.test('off: at once', async (t) => {
    for (const [number, status] of [
      [SIGTERM, 0],
      [SIGKILL, 137],
    ] as const) {
      const { vm, ask } = await lab(t);
      await vm.start(signal);
      await ask('stop', true).settled;
      await vm.signal(28, signal);
      t.equal(vm.power.t, 'off', 'SIGWINCH means nothing');
      await vm.signal(number, signal);
      t.match(await vm.exited, { status });
      await t.rejects(vm.signal(number, signal), { message: 'process already finished' });
      t.match(await ask('start').settled, { phase: 'failed', message: /task has ended/ });
    }
  });
  await t.test('starting: the boot is called off', async (t) => {
    const { vm, ask, boot, qemus } = await lab(t);
    await vm.start(signal);
    await ask('stop', true).settled;
    boot.gate = new Promise(() => undefined);
    const start = ask('start');
    t.equal(vm.power.t, 'starting');
    t.equal(vm.pid, process.pid);
    await vm.signal(SIGTERM, signal);
    t.match(await vm.exited, { status: 0 });
    t.match(await start.settled, { phase: 'failed', message: /task has ended/ });
    t.equal(qemus.length, 1);
  });
  await t.test('stopping, with a boot to follow: it does not', async (t) => {
    const { vm, ask, qemus } = await lab(t);
    await vm.start(signal);
    const pressed = qemus[0]!.fake.arrival('system_powerdown');
    const reboot = ask('reboot');
    await pressed;
    await vm.signal(SIGTERM, signal);
    await guestEnds(qemus[0]!, poweredOff);
    t.match(await vm.exited, { status: 0, reason: { kind: 'guest-shutdown' } });
    t.match(await reboot.settled, { phase: 'failed', message: /task has ended/ });
  });
  await t.test('on, with policies that would boot again', async (t) => {
    const { vm, qemus } = await lab(t, { onPoweroff: 'restart' });
    await vm.start(signal);
    await vm.signal(SIGTERM, signal);
    await guestEnds(qemus[0]!, poweredOff);
    t.match(await vm.exited, { reason: { kind: 'guest-shutdown' } });
  });
  await t.test('paused by an operator: it goes on, to obey', async (t) => {
    const { vm, ask, qemus } = await lab(t);
    await vm.start(signal);
    qemus[0]!.fake.send({ event: 'STOP', timestamp: { seconds: 1, microseconds: 0 } });
    await ask('pause').settled;
    t.match(vm.power, { t: 'on', held: true });
    const goesOn = qemus[0]!.fake.arrival('cont');
    await vm.signal(SIGTERM, signal);
    await goesOn;
  });
});

void t.test('QEMU that dies while it is stopped or rebooted', async (t) => {
  const { vm, ask, qemus } = await lab(t);
  await vm.start(signal);
  const pressed = qemus[0]!.fake.arrival('system_powerdown');
  const reboot = ask('reboot');
  await pressed;
  qemus[0]!.end({ kind: 'signaled', signal: 11 });
  t.match(await reboot.settled, { phase: 'done' });
  t.equal(vm.power.t, 'on');
  const again = qemus[1]!.fake.arrival('system_powerdown');
  const stop = ask('stop');
  await again;
  qemus[1]!.end({ kind: 'signaled', signal: 11 });
  t.match(await stop.settled, { phase: 'done' });
  t.equal(vm.power.t, 'off');
});

void t.test('a forced stop ends the wait of a reboot, which has failed then', async (t) => {
  const { vm, ask, qemus } = await lab(t);
  await vm.start(signal);
  const pressed = qemus[0]!.fake.arrival('system_powerdown');
  const reboot = ask('reboot');
  await pressed;
  t.match(await ask('stop', true).settled, { phase: 'done' });
  t.ok(qemus[0]!.killed);
  t.match(await reboot.settled, {
    phase: 'failed',
    message: /did not boot: it is off: an operator stopped it/,
  });
});

void t.test('policies: hold, restart at once, back off, give way to the operator', async (t) => {
  const { vm, qemus, kept, ask, log } = await lab(t, { onPoweroff: 'hold', onCrash: 'restart' });
  await vm.start(signal);
  await guestEnds(qemus[0]!, poweredOff);
  t.match(vm.power, { t: 'off', why: 'the guest powered itself off', bootAt: undefined });
  t.equal(kept.why, 'the guest powered itself off', 'also when its container is made anew');
  t.match(await ask('start').settled, { phase: 'done' });

  await guestEnds(qemus[1]!, panicked);
  await vm.steady();
  t.equal(vm.power.t, 'on', 'the first time at once');
  await guestEnds(qemus[2]!, panicked);
  await vm.steady();
  t.match(vm.power, {
    t: 'off',
    why: /the guest kernel panicked, 2 times soon after a boot; it boots again at/,
  });
  t.equal(kept.why, undefined, 'one that is to boot again is not to stay off');
  t.match(log.lines.at(-1), /the VM is off: the guest kernel panicked, 2 times/);
  t.match(await ask('start').settled, { phase: 'done' });
  await guestEnds(qemus[3]!, panicked);
  await vm.steady();
  t.equal(vm.power.t, 'on', 'an operator’s start begins anew');
  await guestEnds(qemus[4]!, panicked);
  await vm.steady();
  t.match(vm.power, { t: 'off' });
  t.match(await ask('stop').settled, { phase: 'done', message: 'the VM was off already' });
  t.match(vm.power, { t: 'off', why: 'an operator stopped it', bootAt: undefined });
});

void t.test('a VM that backs off boots by itself in time, unless it is stopped meanwhile', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const { vm, qemus, ask, trace } = await lab(t, { onCrash: 'restart' });
  await vm.start(signal);
  await guestEnds(qemus[0]!, panicked);
  await vm.steady();
  await guestEnds(qemus[1]!, panicked);
  await vm.steady();
  t.equal(vm.power.t, 'off');
  mock.timers.tick(10_000);
  t.equal(vm.power.t, 'starting');
  await vm.steady();
  t.equal(vm.power.t, 'on');
  await guestEnds(qemus[2]!, panicked);
  await vm.steady();
  t.match(vm.power, { t: 'off', why: /3 times/ });
  await ask('stop').settled;
  const before = trace.length;
  mock.timers.tick(3_600_000);
  t.equal(vm.power.t, 'off');
  t.equal(trace.length, before, 'no boot');
});

void t.test('a boot that fails: the VM is off and says why', async (t) => {
  const { vm, boot, ask } = await lab(t);
  await vm.start(signal);
  await ask('stop', true).settled;
  boot.gate = Promise.reject(new VmError('FailedPrecondition', 'the disk is in use'));
  boot.gate.catch(() => undefined);
  t.match(await ask('start').settled, {
    phase: 'failed',
    message: 'the VM did not boot: it is off: the disk is in use',
  });
  t.match(vm.power, { t: 'off', why: 'the disk is in use', bootAt: undefined });
  boot.gate = undefined;
  t.match(await ask('start').settled, { phase: 'done' });
});

void t.test('a VM that was off when its container ended stays off when it is started', async (t) => {
  const { vm, qemus, ask, kept } = await lab(t, {}, 'an operator stopped it');
  await vm.start(signal);
  t.match(vm.power, { t: 'off', why: 'an operator stopped it' });
  t.ok(qemus[0]!.killed);
  t.notOk(
    qemus[0]!.fake.commands.some(({ execute }) => execute === 'cont'),
    'no instruction of the guest ran',
  );
  t.equal(kept.why, 'an operator stopped it');
  t.match(await ask('start').settled, { phase: 'done' });
  t.equal(kept.why, undefined);
});

void t.test('a guest of an earlier shim that was paused stays so, without a step in between', async (t) => {
  const held = { t: 'on', since: 1, held: true, ending: undefined } as const;
  const { vm, qemus } = await lab(t, {}, undefined, { state: held, requests: [] });
  await vm.start(signal);
  const asked = (): string[] => qemus[0]!.fake.commands.map(({ execute }) => execute);
  t.ok(asked().includes('stop'), 'its shim may have died before it was paused');
  t.notOk(asked().includes('cont'));
  t.match(vm.power, { t: 'on', held: true });
  t.match(vm.machine.state, { t: 'paused', asked: true });
  await vm.resume(signal);
  t.ok(asked().includes('cont'));
  t.match(vm.power, { t: 'on', held: false });
});

void t.test('a reset lets a paused guest go on, also for the shim that comes after', async (t) => {
  const { vm, ask, records } = await lab(t);
  await vm.start(signal);
  t.match(await ask('pause').settled, { phase: 'done' });
  t.match(vm.power, { t: 'on', held: true });
  t.match(await ask('reset').settled, { phase: 'done' });
  t.match(vm.power, { t: 'on', held: false });
  t.match(records.at(-1)?.power.state, { t: 'on', held: false });
});

void t.test('before its start nothing but the end is asked of a VM', async (t) => {
  const { vm, ask } = await lab(t);
  for (const action of ['stop', 'start', 'reboot', 'reset', 'pause', 'nmi'])
    t.match(await ask(action).settled, { phase: 'failed', message: /the VM is created/ }, action);
  t.equal(vm.power.t, 'on');
});
