import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { parseArgs } from 'node:util';
import { ControlClient } from '../src/control/control-client.ts';
import type { VmStatus } from '../src/control/control-service.ts';
import { describeError } from '../src/core/errors.ts';
import { Containerd } from '../test/support/containerd.ts';
import { containerdRelease } from '../test/support/containerd-release.ts';
import { leaks } from '../test/support/leaks.ts';
import { vmctl, vmImage } from '../test/support/vm-image.ts';

/** What a guest prints when it can be used: the test guest's own line, or a login prompt. */
const GUEST_UP = /vmguest: ready|login: ?$/m;
const ID = 'demo';

interface DemoImage {
  readonly name: string;
  readonly archive: string;
  /** The user's own image instead of the test guest. */
  readonly own: boolean;
}

async function main(disk: string | undefined, userData: string | undefined): Promise<number> {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'vmdemo-')));
  const containerd = new Containerd(directory, await containerdRelease('host'), { accel: 'auto' });
  try {
    say(`packing ${disk ?? 'the test guest'} as a container image`);
    const image = await packImage(disk, directory);
    if (image === undefined) return 1;
    say('starting a private containerd');
    await containerd.start();
    say(`importing ${image.name}`);
    await containerd.ctr('images', 'import', image.archive);
    const { status, seen } = await runVm(containerd, image, userData);
    if (seen !== undefined) printTimeline(seen);
    const left = await leaks(directory);
    say(
      left.length === 0
        ? 'nothing is left: no process, mount, cgroup, socket or file'
        : `left behind:\n${left.join('\n')}`,
    );
    return left.length === 0 ? status : 1;
  } finally {
    await containerd.stop();
    containerd.removeCgroups();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** @returns undefined for a disk that `vmctl` refuses, which says why. */
async function packImage(disk: string | undefined, directory: string): Promise<DemoImage | undefined> {
  if (disk === undefined) return { ...(await vmImage()), own: false };
  const image = { name: 'example.local/own:1', archive: join(directory, 'own.tar'), own: true };
  const pack = spawn(vmctl, ['image', 'pack', disk, '--name', image.name, '--output', image.archive], {
    stdio: 'inherit',
  });
  const [status] = (await once(pack, 'close')) as [number | null];
  return status === 0 ? image : undefined;
}

interface Ended {
  /** `ctr`'s: the task's own, or why there was none. */
  readonly status: number;
  /** Undefined for a guest that nobody has seen up. */
  readonly seen: Seen | undefined;
}

interface Seen {
  readonly status: VmStatus;
  /** Milliseconds since the epoch. */
  readonly guestUp: number | undefined;
}

/** Runs the VM in the foreground, as a user does, and watches it from the side. */
async function runVm(containerd: Containerd, image: DemoImage, userData: string | undefined): Promise<Ended> {
  const terminal = process.stdin.isTTY && process.stdout.isTTY;
  // A pod would have it from a Secret; a file is mounted in the same way.
  const mount = `type=bind,src=${resolve(userData ?? '')},dst=/vmshim/guest-data/user-data,options=rbind:ro`;
  const flags = [
    '--rm',
    ...(terminal ? ['--tty'] : []),
    ...(userData === undefined ? [] : ['--mount', mount]),
  ];
  const annotations: Record<string, string> = image.own
    ? { 'vmshim.io/memory': '1Gi', 'vmshim.io/cpus': '2' }
    : {};
  const args = await containerd.runArguments(ID, { image: image.name, annotations, flags });
  const command = ['--address', containerd.address, ...args];
  say(`ctr ${command.join(' ')}`);
  if (terminal) say(image.own ? 'the guest’s own shutdown ends it' : 'type "poweroff" to end it');
  const events = spawn('/usr/bin/ctr', ['--address', containerd.address, 'events'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const started = taskStarted(events.stdout);
  const ctr = spawn('/usr/bin/ctr', command, {
    stdio: terminal ? 'inherit' : ['ignore', 'inherit', 'inherit'],
  });
  const exited = once(ctr, 'close');
  // A guest that ends before it was seen up has nothing to show.
  const watched = started.then(() => watch(containerd, terminal)).catch(() => undefined);
  const [status] = (await exited) as [number | null];
  // Of a VM that could not be created there is no event to wait for.
  events.kill();
  process.stdout.write('\n');
  say(`the VM has ended with status ${status ?? 'unknown'}`);
  return { status: status ?? 1, seen: await watched };
}

/** Rejects where the events end before one of the task's. */
async function taskStarted(events: Readable): Promise<void> {
  for await (const line of createInterface({ input: events })) {
    if (line.includes('/tasks/start') || line.includes('/tasks/exit')) return;
  }
  throw new Error('no task was started');
}

/** Without a terminal nobody can end the VM, so it is asked to power off as soon as it is up. */
async function watch(containerd: Containerd, terminal: boolean): Promise<Seen> {
  const vms = JSON.parse((await containerd.vmctl('list', '--json')).stdout) as {
    id: string;
    runDir: string;
  }[];
  const runDir = vms.find((vm) => vm.id === ID)?.runDir ?? '';
  await using client = await ControlClient.connect(join(runDir, 'control.sock'), AbortSignal.timeout(10_000));
  let text = '';
  let guestUp: number | undefined;
  for await (const chunk of client.console(1 << 20)) {
    text = (text + Buffer.from(chunk).toString('latin1')).slice(-4096);
    if (!GUEST_UP.test(text)) continue;
    guestUp = Date.now();
    break;
  }
  const status = await client.status(AbortSignal.timeout(10_000));
  if (!terminal) await containerd.ctr('tasks', 'kill', '--signal', 'SIGTERM', ID);
  return { status, guestUp };
}

function printTimeline({ status, guestUp }: Seen): void {
  const marks = (status.timeline ?? []).map(({ name, atMs }) => ({ name: name ?? '', at: atMs ?? 0 }));
  if (guestUp !== undefined) marks.push({ name: 'guest-up', at: guestUp });
  const first = marks[0]?.at ?? 0;
  say(`timeline (${status.accel ?? ''}: ${status.accelReason ?? ''})`);
  for (const { name, at } of marks)
    process.stdout.write(`  ${(at - first).toFixed(0).padStart(7)} ms  ${name}\n`);
}

function say(text: string): void {
  process.stdout.write(`\x1b[1m== ${text}\x1b[0m\n`);
}

try {
  const { values, positionals } = parseArgs({
    options: { 'user-data': { type: 'string' } },
    allowPositionals: true,
  });
  process.exitCode = await main(positionals[0], values['user-data']);
} catch (error) {
  process.stderr.write(`scripts/demo: ${describeError(error)}\n`);
  process.exitCode = 1;
}
