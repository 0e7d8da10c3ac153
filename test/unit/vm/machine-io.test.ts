import t, { type Test } from 'tap';
import { QmpClient } from '../../../src/qemu/qmp-client.ts';
import type { MachineParts } from '../../../src/vm/machine-parts.ts';
import { Machine } from '../../../src/vm/machine.ts';
import { isStalled } from '../../../src/vm/machine-state.ts';
import { Timeline } from '../../../src/vm/timeline.ts';
import { FakeQemu } from '../../support/fake-qemu.ts';
import { recordingLogger } from '../../support/recording-logger.ts';

const signal = new AbortController().signal;
const SIGTERM = 15;

const stalledAgain = ({ state }: Machine): boolean => isStalled(state) && state.trouble?.errors === 2;

/** A machine whose QEMU is played at the wire: it runs and stops as QEMU does, and tells so in QEMU's order. */
async function lab(t: Test) {
  const qemu = await FakeQemu.start(t);
  const log = recordingLogger();
  /** Whether a guest that goes on fails at once. */
  const disk = { works: true, reason: 'No space left on device', tells: true };
  let status = 'prelaunch';
  const stalls: boolean[] = [];
  const waiting: (() => void)[] = [];

  const event = (name: string, data?: object): object => ({
    event: name,
    data,
    timestamp: { seconds: 1_700_000_000, microseconds: 0 },
  });
  const failure = (): object[] => [...(disk.tells ? [ioError('stop')] : []), event('STOP')];
  const ioError = (action: string): object =>
    event('BLOCK_IO_ERROR', {
      device: '',
      'node-name': 'root',
      operation: 'write',
      action,
      nospace: disk.reason.startsWith('No space'),
      reason: disk.reason,
    });
  /** In one piece, so that the answer and what follows it are read at once. */
  const send = (...messages: object[]): void =>
    qemu.sendRaw(messages.map((message) => `${JSON.stringify(message)}\r\n`).join(''));

  qemu.on('cont', ({ id }) => {
    status = disk.works ? 'running' : 'io-error';
    send(event('RESUME'), { return: {}, id }, ...(disk.works ? [] : failure()));
    return 'silence';
  });
  qemu.on('stop', ({ id }) => {
    const stopped = status === 'running' ? [event('STOP')] : [];
    if (status === 'running') status = 'paused';
    send(...stopped, { return: {}, id });
    return 'silence';
  });
  qemu.on('query-status', () => ({ return: { status, running: status === 'running' } }));
  qemu.on('system_powerdown', () => ({ return: {} }));

  const qmp = await QmpClient.connect(qemu.path);
  const ended = Promise.withResolvers<{ kind: 'exited'; code: number }>();
  const parts = {
    spec: { id: 'vm', name: 'vm' },
    facts: { warnings: ['lasting'] },
    timeline: new Timeline(),
    log,
    qemu: { pid: 1, qmp, exited: ended.promise, log: { tail: () => [] } },
    services: { [Symbol.dispose]: () => undefined },
    ram: { base: 1 << 30, room: 0, plugged: { requested: 0, size: 0 }, held: 0 },
    oomKilled: () => false,
    lostDirectories: () => [],
    recordExit: () => undefined,
  };
  const machine = new Machine(parts as unknown as MachineParts);
  machine.watchStalls((stalled) => {
    stalls.push(stalled);
    for (const wake of waiting.splice(0)) wake();
  });
  t.teardown(async () => {
    ended.resolve({ kind: 'exited', code: 0 });
    await machine.exited;
    qmp.close();
  });
  return {
    qemu,
    machine,
    log,
    disk,
    stalls,
    /** The guest's next request fails. */
    fail: () => {
      disk.works = false;
      status = 'io-error';
      send(...failure());
    },
    report: () => send(ioError('report')),
    /** Until the stall listener is called again. */
    told: () => {
      const told = Promise.withResolvers<undefined>();
      waiting.push(() => told.resolve(undefined));
      return told.promise;
    },
    /** Reads on until the machine is in that state; the test ends by its timeout where it never is. */
    reads: async (state: (machine: Machine) => boolean) => {
      do await qmp.execute('query-status');
      while (!state(machine));
    },
  };
}

void t.test('a full disk stops the guest, which goes on by itself once there is space', async (t) => {
  const { machine, disk, fail, told, stalls, qemu, log, reads } = await lab(t);
  await machine.start(signal);
  fail();
  await told();
  await reads(({ state }) => isStalled(state));
  t.ok(isStalled(machine.state));
  t.match(machine.warnings, [
    'lasting',
    /^disk "root" cannot be written: No space left on device, since \d{4}-.*: make space .*; the VM goes on by itself/,
  ]);
  t.match(log.lines, [/^warn the VM stands still, disk "root" cannot be written: No space left/]);

  await qemu.arrival('cont');
  await reads(stalledAgain);
  t.ok(isStalled(machine.state), 'a try that did not help, told in one piece with its answer');
  t.same(stalls, [true], 'one trouble however often it is tried');
  disk.works = true;
  await qemu.arrival('cont');
  await told();
  t.same(stalls, [true, false]);
  t.equal(machine.state.t, 'running');
  t.same(machine.warnings, ['lasting']);
  t.match(log.lines.at(-1), /^info the VM goes on, its disk works again id=vm errors=2$/);
});

void t.test('resume and the power button try at once', async (t) => {
  const { machine, fail, told, reads, qemu, disk } = await lab(t);
  await machine.start(signal);
  fail();
  await told();
  await machine.resume(signal);
  await reads(stalledAgain);
  t.ok(isStalled(machine.state), 'the disk is as full as before');
  disk.works = true;
  const tried = qemu.arrival('cont');
  await machine.signal(SIGTERM, signal);
  await tried;
  await reads(({ state }) => state.t === 'running');
  t.equal(machine.state.t, 'running');
  t.same(
    qemu.commands
      .map(({ execute }) => execute)
      .filter((name) => name === 'system_powerdown' || name === 'cont'),
    ['cont', 'cont', 'system_powerdown', 'cont'],
  );
});

void t.test('a guest that somebody has paused as well stays so', async (t) => {
  const { machine, fail, told, reads, qemu, disk } = await lab(t);
  await machine.start(signal);
  fail();
  await told();
  await reads(({ state }) => isStalled(state));
  await machine.pause(signal);
  t.match(machine.state, { t: 'paused', asked: true, trouble: { disk: 'root', errors: 1 } });
  t.match(machine.warnings.at(-1), /the VM is paused besides/);
  await t.rejects(machine.pause(signal), {
    kind: 'FailedPrecondition',
    message: /cannot pause: the VM is paused/,
  });
  const before = qemu.commands.length;
  await machine.signal(SIGTERM, signal);
  t.same(
    qemu.commands.slice(before).map(({ execute }) => execute),
    ['system_powerdown'],
    'the button does not resume it',
  );
  disk.works = true;
  await machine.resume(signal);
  t.equal(machine.state.t, 'running');
});

void t.test('an ordinary pause is no trouble', async (t) => {
  const { machine, reads, stalls } = await lab(t);
  await machine.start(signal);
  await machine.pause(signal);
  await reads(({ state }) => state.t === 'paused');
  t.match(machine.state, { t: 'paused', asked: true, trouble: undefined });
  await machine.resume(signal);
  t.equal(machine.state.t, 'running');
  t.same(stalls, []);
});

void t.test('a QEMU that holds the cause back is asked', async (t) => {
  const { machine, fail, told, reads, disk } = await lab(t);
  disk.tells = false;
  await machine.start(signal);
  fail();
  await told();
  await reads(({ state }) => isStalled(state));
  t.ok(isStalled(machine.state));
  t.match(machine.warnings.at(-1), /^a disk cannot be written: input\/output error/);
});

void t.test('errors that the guest is told of are counted, and logged once in a while', async (t) => {
  const { machine, report, reads, log, disk, stalls } = await lab(t);
  disk.reason = 'Input/output error';
  await machine.start(signal);
  for (let i = 0; i < 500; i++) report();
  await reads(({ warnings }) => warnings.at(-1)?.includes('500') === true);
  t.equal(machine.state.t, 'running');
  t.match(
    machine.warnings.at(-1),
    /^disk "root" cannot be written: Input\/output error; the guest was told 500 times since/,
  );
  t.equal(log.lines.length, 1);
  t.same(stalls, []);
});
