import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, rmSync, watch } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { vmNames } from '../../src/vm/names.ts';
import { readRecord, type VmRecord } from '../../src/vm/record.ts';
import { type Containerd, privateContainerd } from '../support/containerd.ts';
import { ctrRun } from '../support/ctr-run.ts';
import { type Gate, GatedQemu } from '../support/gated-qemu.ts';
import { leaks } from '../support/leaks.ts';
import { PublishedEvents } from '../support/published-events.ts';
import { shimConfig } from '../support/shim-config.ts';
import { processEnded, ShimClient } from '../support/shim-client.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

const host = new LinuxHost();
const annotations = { 'vmshim.io/memory': '96Mi' };

/** Nothing is left, but for the fifos of a `ctr` that had no chance to remove them. */
async function expectClean(t: Test, { directory }: Containerd): Promise<void> {
  rmSync(join(directory, 'fifo'), { recursive: true, force: true });
  t.strictSame(await leaks(directory), []);
}

void t.test('QEMU is ended by a signal from outside', async (t) => {
  const containerd = await privateContainerd(t);
  for (const name of ['SIGKILL', 'SIGSEGV'] as const) {
    await t.test(name, async (t) => {
      const signal = constants.signals[name];
      const id = name.toLowerCase();
      const run = await ctrRun(containerd, id, { annotations });
      await run.console.until('vmguest: booting');
      process.kill(pidOf(vmRecord(containerd, id).qemu), name);
      t.equal(await run.exited, 128 + signal);
      await containerd.logged(
        new RegExp(
          `VM ended: QEMU was ended by signal ${signal} that nobody asked us for" .*id=${id} status=${128 + signal}`,
        ),
      );
      await expectClean(t, containerd);
    });
  }
});

void t.test('QEMU is killed before its guest was started', async (t) => {
  const shims = await ShimClient.make(t);
  const shim = await shims.shim('created');
  const { pid } = await shim.task.create({ id: 'created', bundle: shim.bundle });
  process.kill(pid, 'SIGKILL');
  t.match(await shim.task.wait({ id: 'created' }), { exitStatus: 137 });
  t.match(await shims.events.until('exit', 'created'), { message: { exitStatus: 137 } });
  await t.rejects(shim.task.start({ id: 'created' }), { message: /cannot start: the VM is stopped/ });
  t.match(await shim.task.delete({ id: 'created' }), { exitStatus: 137, pid });
  await shims.end(shim);
});

/** Kills the shim of a Create at some point of it. */
type Assassin = (
  containerd: Containerd,
  id: string,
) => Promise<{ readonly flags: string[]; readonly strike: Promise<AsyncDisposable> }>;

const nothing: AsyncDisposable = { [Symbol.asyncDispose]: () => Promise.resolve() };

/** Strikes while QEMU waits at a gate. */
const atGate =
  (gate: Gate): Assassin =>
  (containerd, id) => {
    const path = join(containerd.directory, `qemu-system-${id}`);
    const qemu = new GatedQemu(path, gate);
    const strike = async (): Promise<AsyncDisposable> => {
      const { shim } = await qemu.reached();
      process.kill(shim, 'SIGKILL');
      await processEnded(shim);
      return qemu;
    };
    return Promise.resolve({ flags: shimConfig(containerd, id, { qemu: path }), strike: strike() });
  };

/** Strikes as soon as the record on disk is as wanted. */
const onRecord =
  (wanted: (record: VmRecord) => boolean): Assassin =>
  (containerd, id) => {
    const { record: path, runDir } = vmNames(join(containerd.directory, 'vms'), 'default', id);
    mkdirSync(runDir, { recursive: true });
    const struck = Promise.withResolvers<AsyncDisposable>();
    const watcher = watch(runDir, () => {
      const record = existsSync(path) ? readRecord(host, path) : undefined;
      if (record === undefined || !wanted(record)) return;
      watcher.close();
      process.kill(pidOf(record.shim), 'SIGKILL');
      struck.resolve(nothing);
    });
    return Promise.resolve({ flags: shimConfig(containerd, id, {}), strike: struck.promise });
  };

const moments: Readonly<Record<string, Assassin>> = {
  'before the record': atGate('version'),
  'with the record, before the disk': onRecord(() => true),
  'with the disk': onRecord(({ rootDisk }) => rootDisk !== undefined),
  'QEMU started, not yet answering': atGate('start'),
  'QEMU in the record': onRecord(({ qemu }) => qemu !== undefined),
};

void t.test('the shim is killed', async (t) => {
  const containerd = await privateContainerd(t);

  await t.test('while the guest runs: the VM ends with it, and containerd’s delete undoes all', async (t) => {
    await using events = await PublishedEvents.subscribe(containerd);
    const run = await ctrRun(containerd, 'running', { annotations });
    await run.console.until('vmguest: booting');
    const { shim, qemu } = vmRecord(containerd, 'running');
    const killed = performance.now();
    process.kill(pidOf(shim), 'SIGKILL');
    await processEnded(pidOf(qemu));
    t.comment(`QEMU was gone ${Math.round(performance.now() - killed)} ms after its shim`);
    await events.until('/tasks/exit', '"running"', '"exit_status":137');
    await events.until('/tasks/delete', '"running"', '"exit_status":137');
    t.not(await run.exited, 0);
    await expectClean(t, containerd);
  });

  for (const [index, [moment, assassin]] of Object.entries(moments).entries()) {
    await t.test(`during Create: ${moment}`, async (t) => {
      const id = `create-${index}`;
      const { flags, strike } = await assassin(containerd, id);
      const run = await ctrRun(containerd, id, { annotations, flags });
      const remains = await strike;
      t.not(await run.exited, 0);
      // What was waiting at a gate without being a VM yet goes by itself.
      await remains[Symbol.asyncDispose]();
      await expectClean(t, containerd);
    });
  }

  await t.test('and the id serves again', async (t) => {
    const run = await ctrRun(containerd, 'create-0', { annotations });
    await run.console.until('vmguest: booting');
    await containerd.ctr('tasks', 'kill', '--signal', 'SIGKILL', 'create-0');
    t.equal(await run.exited, 137);
  });
});

void t.test('the caller of Create goes away', async (t) => {
  const containerd = await privateContainerd(t);

  await t.test('ctr is killed: its half-made VM is undone, the next Create of the id works', async (t) => {
    await using qemu = new GatedQemu(join(containerd.directory, 'qemu-system-slow'), 'start');
    const flags = shimConfig(containerd, 'slow', { qemu: qemu.path });
    const run = await ctrRun(containerd, 'vanished', { annotations, flags });
    const { qemu: pid } = await qemu.reached();
    run.process.kill('SIGKILL');
    await run.exited;
    await processEnded(pid);
    await expectClean(t, containerd);

    qemu.open();
    const again = spawn(
      '/usr/bin/ctr',
      [
        '--address',
        containerd.address,
        'tasks',
        'start',
        '--fifo-dir',
        join(containerd.directory, 'fifo'),
        'vanished',
      ],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    const ended = once(again, 'close');
    await once(again.stdout, 'data');
    await containerd.ctr('tasks', 'kill', '--signal', 'SIGKILL', 'vanished');
    t.strictSame(await ended, [137, null]);
    await containerd.ctr('tasks', 'delete', 'vanished').catch(() => undefined);
    await containerd.ctr('containers', 'rm', 'vanished');
  });

  await t.test('ctr’s deadline ends Create', async (t) => {
    await using qemu = new GatedQemu(join(containerd.directory, 'qemu-system-late'), 'start');
    const flags = shimConfig(containerd, 'late', { qemu: qemu.path });
    const args = await containerd.runArguments('late', { annotations, flags });
    const child = spawn('/usr/bin/ctr', ['--address', containerd.address, '--timeout', '3s', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const said = buffer(child.stderr);
    t.strictSame(await once(child, 'close'), [1, null]);
    t.match((await said).toString(), /deadline/i);
    await expectClean(t, containerd);
    // A slow machine's deadline passes before there is a container.
    await containerd.ctr('containers', 'rm', 'late').catch((error: unknown) => {
      if (!/not found/.test(String(error))) throw error;
    });
  });
});
