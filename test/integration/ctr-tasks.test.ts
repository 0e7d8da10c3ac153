import { execFile, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { type Containerd, privateContainerd } from '../support/containerd.ts';
import { ExpectText } from '../support/expect-text.ts';
import { inTerminal } from '../support/in-terminal.ts';
import { vmctl } from '../support/vm-image.ts';

/** A command that fails, as execa reports it. */
const fails = (exitCode: number, all: RegExp): { name: string; exitCode: number; all: RegExp } => ({
  name: 'ExecaError',
  exitCode,
  all,
});

void t.test('ctr tasks and vmctl on one VM', async (t) => {
  const containerd = await privateContainerd(t);
  const id = 'detached';
  await containerd.ctr(...(await containerd.runArguments(id, { flags: ['-d', '--cwd', '/'] })));
  using events = ctrPiped(containerd, 'events');
  using attached = ctrPiped(containerd, 'tasks', 'attach', id);
  await attached.screen.until('vmguest: ready');

  await t.test('list, ps, metrics', async (t) => {
    t.match((await containerd.ctr('tasks', 'ls')).stdout, /^detached +\d+ +RUNNING *$/m);
    const [, pid] = /^detached +(\d+)/m.exec((await containerd.ctr('tasks', 'ls')).stdout) ?? [];
    t.match((await containerd.ctr('tasks', 'ps', id)).stdout, new RegExp(`^${pid ?? '?'} `, 'm'));
    const metrics = JSON.parse(
      (await containerd.ctr('tasks', 'metrics', '--format', 'json', id)).stdout,
    ) as Metrics;
    t.ok(metrics.memory.usage.usage > 32 << 20);
    t.ok(metrics.cpu.usage.total > 1e8);
  });

  await t.test('pause, resume', async (t) => {
    await containerd.ctr('tasks', 'pause', id);
    t.match((await containerd.ctr('tasks', 'ls')).stdout, /^detached +\d+ +PAUSED/m);
    await t.rejects(containerd.ctr('tasks', 'pause', id), fails(1, /cannot pause: the VM is paused/));
    await containerd.ctr('tasks', 'resume', id);
    t.match((await containerd.ctr('tasks', 'ls')).stdout, /^detached +\d+ +RUNNING/m);
  });

  await t.test('what a VM cannot do says so', async (t) => {
    await t.rejects(
      containerd.ctr('tasks', 'exec', '--exec-id', 'e', id, 'ls'),
      fails(1, /guest agent or an SSH server/),
    );
    await t.rejects(containerd.ctr('tasks', 'checkpoint', id), fails(1, /not implemented/));
    t.match((await containerd.ctr('tasks', 'ls')).stdout, /RUNNING/, 'it runs on after a failed checkpoint');
    await t.rejects(containerd.ctr('tasks', 'delete', id), fails(1, /must be stopped|kill it first/));
  });

  await t.test('vmctl list and status', (t) => checkStatus(t, containerd, id));
  await t.test('vmctl: help, wrong usage, exit codes', (t) => checkUsage(t, containerd, id));
  await t.test('vmctl console: two viewers beside ctr', (t) => checkConsole(t, containerd, id, attached));

  await t.test('signals that do nothing, and one that is none', async (t) => {
    for (const signal of ['SIGWINCH', 'SIGCONT', 'SIGCHLD'])
      await containerd.ctr('tasks', 'kill', '--signal', signal, id);
    await t.rejects(containerd.ctr('tasks', 'kill', '--signal', '65', id), fails(1, /signal 65/));
    attached.type('echo alive $((7 * 7))');
    await attached.screen.until('alive 49');
  });

  await t.test('a reader that has gone, and one that comes', async (t) => {
    attached[Symbol.dispose]();
    using back = ctrPiped(containerd, 'tasks', 'attach', id);
    back.type('echo back $((7 * 8))');
    await back.screen.until('back 56');
    t.match((await containerd.ctr('tasks', 'ls')).stdout, /RUNNING/);
  });

  await t.test('the stop signal of systemd’s images presses the power button', async (t) => {
    await containerd.ctr('tasks', 'kill', '--signal', 'SIGRTMIN+3', id);
    await events.screen.until('/tasks/exit');
    t.match((await containerd.ctr('tasks', 'ls')).stdout, /^detached +\d+ +STOPPED/m);
    t.match(
      (await containerd.vmctl('status', id)).stdout,
      /^ended +the guest powered itself off \(exit status 0\)$/m,
    );
    const status = JSON.parse((await containerd.vmctl('status', id, '--json')).stdout) as object;
    t.match(status, { state: 'stopped', exitStatus: 0, exitReason: /powered itself off/, qemuPid: 0 });
    await t.rejects(containerd.ctr('tasks', 'kill', id), fails(1, /process already finished/));
  });

  await containerd.ctr('tasks', 'delete', id);
  await t.rejects(containerd.vmctl('status', id), fails(3, /no VM "detached"/));
  await containerd.ctr('containers', 'delete', id);
});

interface Metrics {
  readonly memory: { readonly usage: { readonly usage: number } };
  readonly cpu: { readonly usage: { readonly total: number } };
}

interface Attached extends Disposable {
  readonly screen: ExpectText;
  type(line: string): void;
}

/** `ctr` with pipes of ours. Disposing kills it, so that it cannot do what it does at its end: delete the task. */
function ctrPiped(containerd: Containerd, ...args: string[]): Attached {
  const child = spawn('/usr/bin/ctr', ['--address', containerd.address, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  return {
    screen: new ExpectText(child.stdout),
    type: (line) => void child.stdin.write(`${line}\n`),
    [Symbol.dispose]: () => void child.kill('SIGKILL'),
  };
}

async function checkStatus(t: Test, containerd: Containerd, id: string): Promise<void> {
  const list = (await containerd.vmctl('list')).stdout.split('\n');
  t.match(list[0], /^NAMESPACE +ID +NAME +STATE +CPUS +MEMORY +ACCEL +PID$/);
  t.match(list[1], /^default +detached +detached +running +1 +128 MiB +tcg +\d+$/);
  t.equal(list.length, 2);
  const [row] = JSON.parse((await containerd.vmctl('list', '--json')).stdout) as Record<string, unknown>[];
  t.match(row, {
    namespace: 'default',
    id,
    name: id,
    state: 'running',
    vcpus: 1,
    memoryBytes: 128 << 20,
    accel: 'tcg',
  });

  const text = (await containerd.vmctl('status', 'detach')).stdout;
  t.match(text, /^state +running$/m, 'by the beginning of its id');
  t.match(text, /^timeline\n +0\.0 ms {2}start-called\n/m);
  t.notMatch(text, /^(ended|exited) /m);
  const status = JSON.parse(
    (await containerd.vmctl('status', id, '--namespace', 'default', '--json')).stdout,
  ) as VmStatus;
  t.match(status, {
    id,
    namespace: 'default',
    state: 'running',
    qemuPid: row?.['pid'],
    exitReason: '',
    machine: /^pc-q35-/,
  });
  t.match(status.bundle, containerd.bundle(id));
  const steps = status.timeline.map(({ name }) => name);
  t.same(steps.slice(0, 3), ['start-called', 'shim-ready', 'create-called']);
  t.same(steps.slice(-2), ['continued', 'first-console-byte']);
  t.same(
    status.timeline,
    [...status.timeline].sort((a, b) => a.atMs - b.atMs),
    'in the order of time',
  );
}

interface VmStatus {
  readonly bundle: string;
  readonly timeline: readonly { readonly name: string; readonly atMs: number }[];
}

async function checkUsage(t: Test, containerd: Containerd, id: string): Promise<void> {
  t.match((await containerd.vmctl()).stdout, /Usage: vmctl COMMAND[\s\S]*\n {2}console +/);
  t.match((await containerd.vmctl('help', 'console')).stdout, /^Usage: vmctl console VM/);
  t.equal(
    (await containerd.vmctl('console', '--help')).stdout,
    (await containerd.vmctl('help', 'console')).stdout,
  );
  t.match((await containerd.vmctl('--version')).stdout, /^vmctl \d+\.\d+\.\d+$/);
  const wrong: readonly (readonly [readonly string[], number, RegExp])[] = [
    [['help', 'fly'], 2, /no command "fly"/],
    [['fly'], 2, /no command "fly"/],
    [['status'], 2, /exactly one VM/],
    [['status', id, id], 2, /exactly one VM/],
    [['status', '--nonsense', id], 2, /--nonsense/],
    [['status', ''], 3, /no VM ""/],
    [['list', id], 2, /list takes no VM/],
    [['console', id, '--replay', 'x'], 2, /--replay "x"/],
    [['completion', 'fish'], 2, /"bash" or "zsh"/],
    [['status', 'nosuch'], 3, /no VM "nosuch"/],
    [['console', id, '--namespace', 'other'], 3, /no VM/],
  ];
  for (const [args, code, sentence] of wrong) {
    await t.rejects(containerd.vmctl(...args), fails(code, sentence), `vmctl ${args.join(' ')}`);
  }

  const script = `source <(vmctl completion bash)
complete_line() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _vmctl; echo "\${COMPREPLY[*]}"; }
complete_line vmctl stat
complete_line vmctl status det
complete_line vmctl console --re
complete_line vmctl help li
complete_line vmctl list --`;
  const { stdout } = await promisify(execFile)('/bin/bash', ['-c', script], {
    env: containerd.environment(),
  });
  t.same(stdout.trim().split('\n'), ['status stats', 'detached', '--replay', 'list', '--json']);

  await t.test('a VM whose shim is not there', async (t) => {
    const directory = join(containerd.directory, 'orphans');
    const config = join(containerd.directory, 'orphans.toml');
    writeFileSync(config, `state_dir = "${directory}"\ndata_dir = "${directory}"\n`);
    mkdirSync(join(directory, 'k'), { recursive: true });
    const record = {
      format: 1,
      id: 'gone',
      namespace: 'default',
      name: 'gone',
      runDir: join(directory, 'k'),
      createdAt: 1,
    };
    writeFileSync(join(directory, 'k/record.json'), JSON.stringify(record));
    const run = promisify(execFile);
    const env = { ...containerd.environment(), VMSHIM_CONFIG: config };
    t.match((await run(vmctl, ['list'], { env })).stdout, /^default +gone +gone +dead +- +- +- +-$/m);
    await t.rejects(run(vmctl, ['status', 'gone'], { env }), { code: 4, stderr: /vmctl: nobody answers/ });
    await t.rejects(run(vmctl, ['console', 'gone'], { env }), { code: 4 });
  });
}

async function checkConsole(t: Test, containerd: Containerd, id: string, attached: Attached): Promise<void> {
  const first = inTerminal([vmctl, 'console', id], containerd.environment());
  await first.screen.until('connected; leave with Ctrl-] q');
  await first.screen.until('vmguest: ready');
  const second = inTerminal([vmctl, 'console', id, '--replay', '0'], containerd.environment());
  await second.screen.until('connected');
  first.press('echo both $((8 * 8))\r');
  for (const { screen } of [first, second, attached]) await screen.until('both 64');
  second.press('echo too $((9 * 9))\r');
  for (const { screen } of [first, second, attached]) await screen.until('too 81');
  t.notMatch(second.screen.text, /vmguest: ready/, 'no replay');

  first.press('\x1d?');
  await first.screen.until('Ctrl-] q leave');
  t.notMatch(second.screen.text, /Ctrl-\] q leave {3}/, 'help is for one’s own screen');
  first.press('stty raw; echo raw $((6 * 6)); dd bs=1 count=3 2>/dev/null | od -An -tx1; stty sane\r');
  await first.screen.until('raw 36');
  first.press('\x1d\x1d\x03\x04');
  await first.screen.until('1d 03 04');

  first.press('\x1dq');
  t.equal(await first.exited, 0);
  t.match(first.screen.text, /console closed\s+$/);
  second.press('\x1d');
  second.press('.');
  t.equal(await second.exited, 0);
  t.match((await containerd.ctr('tasks', 'ls')).stdout, /RUNNING/);

  await t.test('without a terminal: input from a pipe, Ctrl-C from a signal', async (t) => {
    const env = containerd.environment();
    const piped = execFile(vmctl, ['console', id, '--replay', '0'], { env });
    piped.stdin?.end('echo piped $((4 * 4))\n');
    const ended = new Promise((resolve) => piped.once('close', (code, signal) => resolve(code ?? signal)));
    await attached.screen.until('piped 16');
    piped.kill('SIGINT');
    t.equal(await ended, 0);
  });
}

void t.test('ctr run -t: the guest’s console is the terminal', async (t) => {
  const containerd = await privateContainerd(t);
  const args = await containerd.runArguments('tty', { flags: ['--rm', '-t'] });
  const terminal = inTerminal(
    ['/usr/bin/ctr', '--address', containerd.address, ...args],
    containerd.environment(),
  );
  await terminal.screen.until('vmguest: ready');
  terminal.press('echo typed $((3 * 3))\r');
  await terminal.screen.until('typed 9');
  await containerd.ctr('tasks', 'kill', '--signal', 'SIGKILL', 'tty');
  t.equal(await terminal.exited, 137);
});
