import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import t, { type Test } from 'tap';
import { VmError } from '../../src/core/errors.ts';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { loadNative } from '../../src/host/native.ts';
import { ownFd } from '../../src/host/owned-fd.ts';
import { isAlive, type ProcessIdentity } from '../../src/host/process-identity.ts';
import { exitReason, noExitEvidence, noteExitEvent } from '../../src/qemu/exit-cause.ts';
import { QemuProcess, type QemuStart } from '../../src/qemu/process.ts';
import { readQemuVersion } from '../../src/qemu/qemu-version.ts';
import * as commands from '../../src/qemu/qmp-commands.ts';
import { isJsonObject, type JsonObject, type QmpEvent } from '../../src/qemu/qmp-codec.ts';
import { parseVmEvent, vmEventNames } from '../../src/qemu/qmp-events.ts';
import { tempDir } from '../support/temp-dir.ts';

const host = new LinuxHost();
const qemu = '/usr/bin/qemu-system-x86_64';
const paused = ['-machine', 'q35', '-accel', 'tcg', '-m', '32', '-S', '-no-shutdown'];
/** Nothing here waits for time; this only ends a file that would hang. */
const signal = AbortSignal.timeout(600_000);

/** What `QemuProcess.start` needs for these arguments, with a QMP socket bound as the shim does it. */
function startOptions(t: Test, args: readonly string[], change: Partial<QemuStart> = {}): QemuStart {
  // A spawned process does not keep the event loop alive; in the shim its servers do.
  const alive = setInterval(() => undefined, 60_000);
  t.teardown(() => clearInterval(alive));
  const dir = tempDir(t);
  const qmpPath = join(dir, 'qmp.sock');
  const listener = ownFd(loadNative().listenUnix(qmpPath, 8));
  const qmp = ['-chardev', 'socket,id=qmp,fd=3,server=on,wait=off', '-mon', 'chardev=qmp,mode=control'];
  return {
    file: qemu,
    command: { args: ['-nodefaults', '-no-user-config', '-display', 'none', ...args, ...qmp], fds: ['qmp'] },
    fds: [listener.fd],
    fdOwner: listener,
    qmpPath,
    logPath: join(dir, 'qemu.log'),
    uid: 0,
    gid: 0,
    network: 'inherit',
    cwd: '/',
    signal,
    ...change,
  };
}

async function start(
  t: Test,
  args: readonly string[],
  change: Partial<QemuStart> = {},
): Promise<QemuProcess> {
  const started = await QemuProcess.start(host, startOptions(t, args, change));
  t.teardown(() => started[Symbol.asyncDispose]());
  return started;
}

async function failure(promise: Promise<unknown>): Promise<VmError> {
  const error = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!(error instanceof VmError)) throw new Error(`no VmError but ${String(error)}`);
  return error;
}

function openDescriptors(): string[] {
  return readdirSync('/proc/self/fd');
}

void t.test('a paused VM lives through cont, stop, reset, power button and quit', async (t) => {
  const vm = await start(t, paused);
  const { qmp } = vm;
  t.equal(qmp.version.major >= 7, true);
  t.same(await commands.queryStatus(qmp), { status: 'prelaunch', running: false });
  using events = qmp.listen(vmEventNames);

  await commands.cont(qmp);
  t.match(await events.next({ signal }), { name: 'RESUME' });
  t.same(await commands.queryStatus(qmp), { status: 'running', running: true });
  await commands.stop(qmp);
  t.match(await events.next({ signal }), { name: 'STOP' });
  t.equal((await commands.queryStatus(qmp)).status, 'paused');
  await commands.systemPowerdown(qmp);
  t.match(await events.next({ signal }), { name: 'POWERDOWN' });
  await commands.systemReset(qmp);
  t.match(parseVmEvent(await events.next({ signal })), {
    name: 'RESET',
    guest: false,
    reason: 'host-qmp-system-reset',
  });
  await commands.injectNmi(qmp);

  t.same(await commands.queryKvm(qmp).then(({ enabled }) => enabled), false);
  const [cpu] = await commands.queryCpusFast(qmp);
  t.ok(existsSync(`/proc/${vm.pid}/task/${cpu?.threadId ?? 0}`), 'the vCPU is a thread of QEMU');
  t.equal((await failure(commands.queryBalloon(qmp))).kind, 'FailedPrecondition', 'no balloon device');
  t.match(await failure(commands.screendump(qmp, '/nonexistent/x.png')), { message: /"screendump"/ });
  t.match(await failure(qmp.execute('no-such-command')), { kind: 'Unimplemented' });
  t.match(await failure(qmp.execute('balloon', { value: 'x' })), { kind: 'Internal', message: /"balloon"/ });

  await commands.quit(qmp);
  t.match(parseVmEvent(await events.next({ signal })), {
    name: 'SHUTDOWN',
    guest: false,
    reason: 'host-qmp-quit',
  });
  t.same(await vm.exited, { kind: 'exited', code: 0 });
  t.equal(await qmp.closed, undefined);
  t.equal((await failure(commands.queryStatus(qmp))).kind, 'Unavailable');
  vm.kill();
  t.same(await vm.terminate(0), { kind: 'exited', code: 0 }, 'ending what has ended changes nothing');
});

void t.test('many commands at once all get their own answer', async (t) => {
  const { qmp } = await start(t, ['-machine', 'none', '-S']);
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, i) =>
      i % 2 === 0
        ? commands.queryStatus(qmp).then(({ status }) => status)
        : failure(qmp.execute(`odd-${i}`)).then(({ message }) => message),
    ),
  );
  for (const [i, answer] of answers.entries()) t.match(answer, i % 2 === 0 ? 'prelaunch' : `odd-${i} `);
});

void t.test('the commands and events in use are in QEMU’s own schema', async (t) => {
  const { qmp } = await start(t, ['-machine', 'none', '-S']);
  const schema = (await qmp.execute('query-qmp-schema')) as JsonObject[];
  const entries = new Map(
    schema.map((entry) => [`${String(entry['meta-type'])} ${String(entry['name'])}`, entry]),
  );
  const asked: [string, JsonObject][] = [];
  const recorder: commands.QmpExecutor = {
    execute: (command, args = {}) => {
      asked.push([command, args]);
      return Promise.reject(new VmError('Unavailable', 'only recorded'));
    },
  };
  const calls = Object.values(commands) as ((
    qmp: commands.QmpExecutor,
    argument: string,
  ) => Promise<unknown>)[];
  for (const call of calls) await call(recorder, '/x').catch(() => undefined);
  t.equal(asked.length, calls.length);
  for (const [command, args] of asked) {
    const entry = entries.get(`command ${command}`);
    t.ok(entry, command);
    const type = entries.get(`object ${String(entry?.['arg-type'])}`);
    const members = Array.isArray(type?.['members']) ? type['members'].filter(isJsonObject) : [];
    const names = members.map(({ name }) => name);
    for (const name of Object.keys(args)) t.ok(names.includes(name), `${command} ${name}`);
  }
  for (const name of vmEventNames) t.ok(entries.has(`event ${name}`), name);
});

void t.test('a QEMU killed from outside ends everything that waits', async (t) => {
  const vm = await start(t, paused);
  process.kill(vm.pid, 'SIGSTOP');
  using events = vm.qmp.listen(['SHUTDOWN']);
  const waiting = [failure(commands.queryStatus(vm.qmp)), failure(events.next())];
  process.kill(vm.pid, 'SIGKILL');
  for (const error of await Promise.all(waiting)) t.equal(error.kind, 'Unavailable');
  t.same(await vm.exited, { kind: 'signaled', signal: 9 });
  await vm.qmp.closed;
  t.notOk(isAlive(host, vm.identity));
});

void t.test('terminate lets QEMU go by itself, and kills what does not', async (t) => {
  const seen: QmpEvent[] = [];
  const gentle = await start(t, paused, { onEvent: (event) => seen.push(event) });
  t.same(await gentle.terminate(60_000), { kind: 'exited', code: 0 });
  t.match(
    seen.map(parseVmEvent),
    [{ name: 'SHUTDOWN', guest: false, reason: 'host-signal' }],
    'seen before the exit',
  );
  t.match(gentle.log.tail(), [/^terminating on signal 15 from pid \d+/]);

  const hung = await start(t, paused);
  process.kill(hung.pid, 'SIGSTOP');
  t.same(await hung.terminate(1), { kind: 'signaled', signal: 9 });
});

void t.test('a QEMU that refuses its arguments says why', async (t) => {
  const table: [string[], RegExp][] = [
    [['-bogus'], /^QEMU did not start \(exit status 1\): -bogus: invalid option$/],
    [['-machine', 'none', '-device', 'nope'], /'nope' is not a valid device model name$/],
    [['-machine', 'pc-q35-99'], /unsupported machine type/],
    [['-machine', 'q35', '-accel', 'tcg', '-m', '9E'], /exit status 1\): ./],
  ];
  for (const [args, message] of table) {
    const before = openDescriptors().length;
    let identity: ProcessIdentity | undefined;
    const onSpawn = (spawned: ProcessIdentity): void => void (identity = spawned);
    const error = await failure(QemuProcess.start(host, startOptions(t, args, { onSpawn })));
    t.match(error, { kind: 'FailedPrecondition', message }, args.join(' '));
    t.ok(identity !== undefined && !isAlive(host, identity));
    t.equal(openDescriptors().length, before, 'no descriptor is left');
  }
});

void t.test('a QEMU that ends is noticed even while somebody else holds its socket', async (t) => {
  const options = startOptions(t, ['-bogus']);
  t.teardown(() => options.fdOwner[Symbol.dispose]());
  const fdOwner = { [Symbol.dispose]: () => undefined };
  t.match(await failure(QemuProcess.start(host, { ...options, fdOwner })), { message: /invalid option/ });
});

void t.test('programs that are no QEMU', async (t) => {
  const dir = tempDir(t);
  const script = (name: string, text: string): string => {
    writeFileSync(join(dir, name), `#!/bin/sh\n${text}\n`);
    chmodSync(join(dir, name), 0o755);
    return join(dir, name);
  };
  const table: [string, string, RegExp][] = [
    [script('silent', 'exit 0'), 'FailedPrecondition', /\(exit status 0\): it left nothing in .*qemu\.log$/],
    [script('loud', 'echo one >&2; echo two; exit 3'), 'FailedPrecondition', /\(exit status 3\): one; two$/],
    [
      script('sandboxed', 'kill -SYS $$'),
      'Internal',
      /\(signal 31, a system call that its seccomp sandbox denies\)/,
    ],
    [join(dir, 'missing'), 'NotFound', /missing/],
  ];
  for (const [file, kind, message] of table) {
    const before = openDescriptors().length;
    t.match(await failure(QemuProcess.start(host, startOptions(t, [], { file }))), { kind, message });
    t.equal(openDescriptors().length, before, 'no descriptor is left');
  }
});

void t.test('a start that is given up leaves no process', async (t) => {
  const program = join(tempDir(t), 'mute');
  writeFileSync(program, '#!/bin/sh\nexec sleep 1000\n');
  chmodSync(program, 0o755);
  const spawns: ProcessIdentity[] = [];
  const check = async (change: Partial<QemuStart>, expected: unknown): Promise<void> => {
    const before = openDescriptors().length;
    const error: unknown = await QemuProcess.start(host, startOptions(t, paused, change)).catch(
      (e: unknown) => e,
    );
    t.match(error, expected);
    for (const identity of spawns) t.notOk(isAlive(host, identity));
    t.equal(openDescriptors().length, before, 'no descriptor is left');
  };
  await check({ signal: AbortSignal.abort() }, { kind: 'Canceled', message: /starting QEMU/ });
  t.same(spawns, [], 'nothing was spawned');
  for (const file of [qemu, program]) {
    const abort = new AbortController();
    const onSpawn = (spawned: ProcessIdentity): void => {
      spawns.push(spawned);
      t.ok(isAlive(host, spawned));
      abort.abort(new DOMException('late', 'TimeoutError'));
    };
    await check(
      { file, signal: abort.signal, onSpawn },
      { kind: 'DeadlineExceeded', message: /starting QEMU/ },
    );
  }
  const later = new AbortController();
  const abortLater = (spawned: ProcessIdentity): void => {
    spawns.push(spawned);
    setImmediate(() => later.abort());
  };
  await check({ file: program, signal: later.signal, onSpawn: abortLater }, { kind: 'Canceled' });
  const full = new VmError('ResourceExhausted', 'the record cannot be written');
  const failingRecord = (spawned: ProcessIdentity): void => {
    spawns.push(spawned);
    throw full;
  };
  await check({ onSpawn: failingRecord }, full);
  t.equal(spawns.length, 4);
  await check({ fds: [] }, { kind: 'Internal', message: /count on 1 descriptors, not 0/ });
});

void t.test('the log is private, and its warnings can be had', async (t) => {
  const vm = await start(t, [...paused, '-cpu', 'qemu64,+vmx']);
  t.match(vm.log.readWarnings(), [/doesn't support requested feature: .*vmx/]);
  t.equal(statSync(vm.log.path).mode & 0o777, 0o600);
});

void t.test('runs unprivileged, sandboxed, without a network and outside our session', async (t) => {
  const sandbox = 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny';
  const vm = await start(t, [...paused, '-sandbox', sandbox], {
    uid: 65534,
    gid: 65534,
    network: 'empty',
    env: { VMSHIM_KEY: 'k1' },
  });
  const status = readFileSync(`/proc/${vm.pid}/status`, 'utf8');
  t.match(status, /^Uid:\t65534\t65534\t65534\t65534$/m);
  t.match(status, /^Gid:\t65534\t65534\t65534\t65534$/m);
  t.match(status, /^CapEff:\t0+$/m);
  t.match(status, /^Seccomp:\t2$/m);
  t.notMatch(readFileSync(`/proc/${vm.pid}/net/dev`, 'utf8'), /eth|veth|ens/);
  t.equal(
    readFileSync(`/proc/${vm.pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[3],
    String(vm.pid),
    'session leader',
  );
  const environment = readFileSync(`/proc/${vm.pid}/environ`, 'utf8').split('\0');
  t.ok(environment.includes('LC_ALL=C') && environment.includes('VMSHIM_KEY=k1'));
  t.notOk(
    environment.some((line) => /^(PATH|HOME)=/.test(line)),
    'nothing of ours',
  );
  t.equal((await commands.queryStatus(vm.qmp)).status, 'prelaunch');
});

/** Real-mode programs for a boot sector that end the guest as an operating system would. */
const guestEnds = {
  /** mov dx,0x604; mov ax,0x2000; out dx,ax: ACPI soft-off by PM1a_CNT where SeaBIOS puts it on q35. */
  powerOff: [0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef],
  /** mov dx,0xcf9; mov al,6; out dx,al: the chipset's reset register. */
  reset: [0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee],
  /** mov dx,0x505; mov al,1; out dx,al: the pvpanic device. */
  panic: [0xba, 0x05, 0x05, 0xb0, 0x01, 0xee],
};

function bootDisk(t: Test, program: readonly number[]): string[] {
  const image = Buffer.alloc(1 << 20);
  // Then cli; hlt, and the boot signature.
  Buffer.from([...program, 0xfa, 0xf4]).copy(image);
  image.set([0x55, 0xaa], 510);
  const filename = join(tempDir(t), 'disk.img');
  writeFileSync(filename, image);
  return [
    ...['-blockdev', JSON.stringify({ driver: 'file', 'node-name': 'd', filename })],
    ...['-device', JSON.stringify({ driver: 'ide-hd', drive: 'd', bootindex: 0 })],
  ];
}

void t.test('the reason of an exit is what really happened', async (t) => {
  const cases: { name: string; program: readonly number[]; args: string[]; last: string; kind: string }[] = [
    { name: 'power-off', program: guestEnds.powerOff, args: [], last: 'STOP', kind: 'guest-shutdown' },
    { name: 'reboot', program: guestEnds.reset, args: ['-no-reboot'], last: 'STOP', kind: 'guest-reset' },
    {
      name: 'panic',
      program: guestEnds.panic,
      args: ['-device', 'pvpanic', '-action', 'panic=pause'],
      last: 'STOP',
      kind: 'guest-panic',
    },
  ];
  for (const { name, program, args, last, kind } of cases) {
    let evidence = noExitEvidence;
    const onEvent = (event: QmpEvent): void => {
      const known = parseVmEvent(event);
      if (known !== undefined) evidence = noteExitEvent(evidence, known);
    };
    const vm = await start(t, [...paused, ...bootDisk(t, program), ...args], { onEvent });
    using ends = vm.qmp.listen([last]);
    await commands.cont(vm.qmp);
    await ends.next({ signal });
    await commands.quit(vm.qmp);
    const exit = await vm.exited;
    const reason = exitReason({
      exit,
      evidence,
      requestedSignal: undefined,
      oomKilled: false,
      logTail: vm.log.tail(),
    });
    t.equal(reason.kind, kind, name);
    t.equal(evidence.host, 'host-qmp-quit', 'the second SHUTDOWN was seen too');
  }
});

void t.test('a guest that is off boots again in the same QEMU', async (t) => {
  let evidence = noExitEvidence;
  const onEvent = (event: QmpEvent): void => {
    const known = parseVmEvent(event);
    if (known !== undefined) evidence = noteExitEvent(evidence, known);
  };
  const vm = await start(t, [...paused, ...bootDisk(t, guestEnds.powerOff)], { onEvent });
  for (const round of [1, 2]) {
    using shutdown = vm.qmp.listen(['SHUTDOWN']);
    await commands.cont(vm.qmp);
    await shutdown.next({ signal });
    t.equal(evidence.guest, 'shutdown', `round ${round}`);
    t.match(await failure(commands.cont(vm.qmp)), {
      message: /"cont": Resetting the Virtual Machine is required/,
    });
    using reset = vm.qmp.listen(['RESET']);
    await Promise.all([commands.systemReset(vm.qmp), reset.next({ signal })]);
    t.equal(evidence.guest, 'running', `round ${round} forgotten`);
  }
});

void t.test('this QEMU’s version and machine type', async (t) => {
  const stateDir = tempDir(t);
  const version = await readQemuVersion(host, qemu, { stateDir, signal });
  t.match(version.q35, /^pc-q35-\d+\.\d+$/);
  const vm = await start(t, ['-machine', version.q35, '-accel', 'tcg', '-m', '32', '-S']);
  const { major, minor, micro } = vm.qmp.version;
  t.match(version, { major, minor, micro });
});
