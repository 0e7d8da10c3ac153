import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, globSync, openSync, readFileSync, rmSync, watch, writeSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Containerd, privateContainerd } from '../support/containerd.ts';
import { ExpectText } from '../support/expect-text.ts';
import { guest } from '../support/guest.ts';
import { PublishedEvents } from '../support/published-events.ts';
import { processEnded } from '../support/shim-client.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

/** Resolves when a file that only grows has a text that matches. */
async function untilFile(path: string, pattern: RegExp): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const look = (): void => {
    if (pattern.test(readFileSync(path, 'latin1'))) resolve(undefined);
  };
  const watcher = watch(path, look);
  look();
  await promise;
  watcher.close();
}

/** A client of its own for the fifos of a task that `ctr` has left: what containerd does cannot disturb it. */
class OwnReader implements AsyncDisposable {
  readonly console: ExpectText;
  readonly #stdin: number;
  readonly #reader;
  #left = false;

  constructor({ directory }: Containerd, id: string) {
    const [stdin = '', stdout = ''] = ['stdin', 'stdout'].flatMap((name) =>
      globSync(`${directory}/fifo/*/${id}-${name}`),
    );
    this.#stdin = openSync(stdin, constants.O_WRONLY | constants.O_NONBLOCK);
    this.#reader = spawn('cat', [stdout], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.console = new ExpectText(this.#reader.stdout);
  }

  type(line: string): void {
    writeSync(this.#stdin, `${line}\n`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#left) return;
    this.#left = true;
    closeSync(this.#stdin);
    if (this.#reader.exitCode !== null) return;
    const ended = once(this.#reader, 'exit');
    this.#reader.kill('SIGKILL');
    await ended;
  }
}

/** `ctr run --detach`, with a stdin that does not end: its end would be a CloseIO. */
async function runDetached(containerd: Containerd, id: string, flags: string[], run = ''): Promise<void> {
  const { cmdline } = await guest();
  const args = await containerd.runArguments(id, {
    flags: ['--detach', ...flags],
    annotations: {
      'vmshim.io/memory': '96Mi',
      'vmshim.io/cmdline': run === '' ? cmdline : `${cmdline} vmguest.run="${run}"`,
    },
  });
  const child = spawn('/usr/bin/ctr', ['--address', containerd.address, ...args], {
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  const [status] = (await once(child, 'exit')) as unknown[];
  if (status !== 0) throw new Error(`ctr run of ${id} ended with ${String(status)}`);
}

/** The state that `ctr tasks ls` shows. */
async function stateOf(containerd: Containerd, id: string): Promise<string | undefined> {
  const { stdout } = await containerd.ctr('tasks', 'ls');
  return new RegExp(`^${id} +(\\d+) +(\\w+)$`, 'm').exec(stdout)?.[2];
}

const numbers = (text: string): number[] =>
  [...text.matchAll(/line (\d+)\r?\n/g)].map((match) => Number(match[1]));
const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);

async function remove(containerd: Containerd, id: string): Promise<void> {
  await containerd.ctr('tasks', 'delete', id).catch(() => undefined);
  await containerd.ctr('containers', 'rm', id);
}

async function attach(t: Test, containerd: Containerd, id: string): Promise<void> {
  const child = spawn('/usr/bin/ctr', ['--address', containerd.address, 'tasks', 'attach', id], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(child, 'close');
  const console = new ExpectText(child.stdout);
  child.stdin.write('echo attached-$((40 + 2))\n');
  await console.until('attached-42');
  child.stdin.write('poweroff\n');
  t.strictSame(await ended, [0, null], 'the exit reaches a client of the new containerd');
}

void t.test('containerd is killed and comes back while VMs run', async (t) => {
  const containerd = await privateContainerd(t);
  const file = join(containerd.directory, 'console.txt');
  await Promise.all([
    runDetached(containerd, 'reader', []),
    runDetached(containerd, 'ends', []),
    runDetached(containerd, 'file', ['--log-uri', `file://${file}`], 'lines 150 0.02'),
  ]);
  await using reader = new OwnReader(containerd, 'reader');
  await using ends = new OwnReader(containerd, 'ends');
  await Promise.all([reader, ends].map(({ console }) => console.until('vmguest: ready')));
  const before = ['reader', 'file'].map((id) => vmRecord(containerd, id));
  reader.type('lines 150 0.02');
  await Promise.all([reader.console.until(/^line 20\r?$/m), untilFile(file, /^line 20\r?$/m)]);

  await containerd.kill();
  const qemu = pidOf(vmRecord(containerd, 'ends').qemu);
  ends.type('panic');
  await processEnded(qemu);
  await ends.console.until('Kernel panic');
  const seen = numbers(reader.console.text).length;
  // It may have come far meanwhile.
  await reader.console.until(new RegExp(`^line ${Math.min(seen + 20, 150)}\r?$`, 'm'));
  await containerd.start();

  await t.test('shim, VM and task are the same as before', async (t) => {
    t.equal(await stateOf(containerd, 'reader'), 'RUNNING');
    t.equal(await stateOf(containerd, 'file'), 'RUNNING');
    t.strictSame(
      ['reader', 'file'].map((id) => vmRecord(containerd, id)),
      before,
    );
  });

  await t.test('an end while containerd was away is told afterwards', async (t) => {
    await untilFile(containerd.logFile, /event forwarded.*topic=\/tasks\/exit/);
    t.equal(await stateOf(containerd, 'ends'), 'STOPPED');
    const { all } = await containerd
      .ctr('tasks', 'delete', 'ends')
      .catch((error: unknown) => error as { all: string });
    t.match(all, /exit.* 1|code 1/);
    await containerd.ctr('containers', 'rm', 'ends');
  });

  await t.test('not one line is lost, on a fifo or in a file', async (t) => {
    await Promise.all([reader.console.until(/line 150\r?\n/), untilFile(file, /line 150\r?\n/)]);
    t.strictSame(numbers(reader.console.text), upTo(150));
    t.strictSame(numbers(readFileSync(file, 'latin1')), upTo(150));
  });

  await t.test('events go on', async (t) => {
    await using events = await PublishedEvents.subscribe(containerd);
    await containerd.ctr('tasks', 'pause', 'file');
    await events.until('/tasks/paused', '"file"');
    await containerd.ctr('tasks', 'resume', 'file');
    await events.until('/tasks/resumed', '"file"');
    await containerd.ctr('tasks', 'kill', '--signal', 'SIGKILL', 'file');
    await events.until('/tasks/exit', '"file"', '"exit_status":137');
    await untilFile(containerd.logFile, /VM ended: the VM was killed on request by signal 9" .*id=file/);
    t.equal(await stateOf(containerd, 'file'), 'STOPPED');
    await remove(containerd, 'file');
  });

  await t.test('attach reaches the console', async (t) => {
    await reader[Symbol.asyncDispose]();
    await attach(t, containerd, 'reader');
    await remove(containerd, 'reader');
  });
  // Detached clients leave their fifos to whoever deletes the task; a restarted one does not know them.
  rmSync(join(containerd.directory, 'fifo'), { recursive: true, force: true });
});
