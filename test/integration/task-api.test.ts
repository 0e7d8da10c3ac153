import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { io } from '#wire-metrics';
import { type RunningShim, ShimClient, commandLine, processEnded } from '../support/shim-client.ts';
import { refused } from '../support/refused.ts';
import type { TaskClient } from '../support/task-client.ts';
import type { TaskIo } from '../support/task-io.ts';

const MIB = 1 << 20;
const SIGTERM = 15;
const SIGKILL = 9;
const SIGWINCH = 28;
const resources = (value: object): { typeUrl: string; value: Uint8Array } => ({
  typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/LinuxResources',
  value: Buffer.from(JSON.stringify(value)),
});

/** Every method that names a task. */
const ofTask = (
  task: TaskClient,
  id: string,
  execId = '',
): Readonly<Record<string, () => Promise<unknown>>> => ({
  State: () => task.state({ id, execId }),
  Wait: () => task.wait({ id, execId }),
  Kill: () => task.kill({ id, execId, signal: SIGKILL }),
  Start: () => task.start({ id, execId }),
  Delete: () => task.delete({ id, execId }),
  CloseIO: () => task.closeIO({ id, execId, stdin: true }),
  ResizePty: () => task.resizePty({ id, execId, width: 80, height: 24 }),
});

void t.test('what is not there', async (t) => {
  const shims = await ShimClient.make(t);
  const shim = await shims.shim('none', { version: 3 });
  const v2 = await shims.connect(shim.socketPath, 2);
  for (const task of [v2, shim.task]) {
    const calls = {
      ...ofTask(task, 'none'),
      ...ofTask(task, 'none', 'exec'),
      Pids: () => task.pids({ id: 'none' }),
      Pause: () => task.pause({ id: 'none' }),
      Resume: () => task.resume({ id: 'none' }),
      Exec: () => task.exec({ id: 'none', execId: 'exec' }),
      Checkpoint: () => task.checkpoint({ id: 'none' }),
      Update: () => task.update({ id: 'none', resources: resources({}) }),
      Stats: () => task.stats({ id: 'none' }),
    };
    for (const [method, call] of Object.entries(calls)) {
      await refused(t, call(), 'NotFound', /container "none" is not created/, `${method} v${task.version}`);
    }
    t.match(
      await task.connect({ id: 'none' }),
      { shimPid: shim.pid, taskPid: 0 },
      `Connect v${task.version}`,
    );
    const raw = (service: string, method: string, payload = ''): Promise<unknown> =>
      task.ttrpc.call(service, method, Buffer.from(payload));
    await refused(t, raw(`containerd.task.v${task.version}.Task`, 'Fly'), 'Unimplemented', /method Fly/);
    await refused(t, raw(`containerd.task.v${task.version}.Task`, 'State', '\n\xff'), 'InvalidArgument');
    await refused(t, raw('containerd.services.streaming.v1.Streaming', 'Stream'), 'Unimplemented', /service/);
    await refused(
      t,
      raw('containerd.runtime.sandbox.v1.Sandbox', 'Platform'),
      'NotFound',
      /sandbox "" is not/,
    );
  }

  await t.test('a Create that fails leaves the shim as it was', async (t) => {
    const create = { id: 'none', bundle: shim.bundle };
    await refused(t, shim.task.create({ ...create, checkpoint: '/c' }), 'Unimplemented', /checkpoint/);
    await refused(t, shim.task.create({ ...create, stdout: 'fd://1' }), 'Unimplemented', /fd:\/\/1/);
    await refused(
      t,
      shim.task.create({ ...create, bundle: '/nonexistent' }),
      'InvalidArgument',
      /config\.json/,
    );
    t.equal((await shim.task.connect({ id: 'none' })).taskPid, 0);
    await refused(t, shim.task.delete({ id: 'none' }), 'NotFound');
  });

  await shim.task.shutdown({ id: 'none' });
  await shim.task.ttrpc.closed;
  await processEnded(shim.pid);
  t.notOk(existsSync(shim.socketPath), 'Shutdown takes the socket away');
  rmSync(shim.bundle, { recursive: true });
  t.same(shims.events.received, []);
});

void t.test('the life of a task', async (t) => {
  const shims = await ShimClient.make(t);
  const shim = await shims.shim('vm', {
    annotations: { 'vmshim.io/max-cpus': '2', 'vmshim.io/max-memory': '128Mi' },
    resources: { cpu: { shares: 512 } },
  });
  const { task } = shim;
  const { id } = shim;
  const io = shims.io(id);
  const other = await shims.connect(shim.socketPath, 3);

  await t.test('created: QEMU waits', async (t) => {
    const { pid } = await task.create({ id, bundle: shim.bundle, ...io.request });
    t.match(commandLine(pid), /qemu-system/);
    t.equal((await task.connect({ id })).taskPid, pid);
    t.same(
      (await task.pids({ id })).processes.map((process) => process.pid),
      [pid],
    );
    t.match(await task.state({ id }), {
      id,
      bundle: shim.bundle,
      pid,
      status: 1,
      ...io.request,
      exitStatus: 0,
      execId: '',
    });
    await refused(t, task.create({ id, bundle: shim.bundle }), 'AlreadyExists', /"vm" already exists/);
    await refused(
      t,
      other.create({ id: 'second', bundle: shim.bundle }),
      'FailedPrecondition',
      /has a VM already/,
    );
    await refused(t, task.pause({ id }), 'FailedPrecondition', /cannot pause: the VM is created/);
    await refused(t, task.resume({ id }), 'FailedPrecondition', /cannot resume: the VM is created/);
    await refused(t, task.checkpoint({ id }), 'Unimplemented');
    await refused(t, task.exec({ id, execId: 'e' }), 'FailedPrecondition', /guest agent or an SSH server/);
    for (const [method, call] of Object.entries(ofTask(task, id, 'e'))) {
      await refused(t, call(), 'NotFound', /exec "e" does not exist/, method);
    }
  });

  const waiters = [task.wait({ id }), task.wait({ id }), other.wait({ id })];

  await t.test('running', async (t) => {
    const { pid } = await task.start({ id });
    t.match(await other.state({ id }), { pid, status: 2 });
    await refused(t, task.start({ id }), 'FailedPrecondition', /started before/);
    await refused(t, task.delete({ id }), 'FailedPrecondition', /it is running; kill it first/);
    await refused(t, task.resume({ id }), 'FailedPrecondition', /the VM is running/);
    await task.resizePty({ id, width: 132, height: 43 });
    await task.shutdown({ id, now: true });
    t.match(await task.state({ id }), { status: 2 }, 'Shutdown is not for a shim with a task');
    await io.console.until('vmguest: ready');
    io.type('echo typed $((6 * 7))');
    await io.console.until('typed 42');
  });

  await t.test('paused and resumed', async (t) => {
    await task.pause({ id });
    t.match(await task.state({ id }), { status: 4 });
    t.equal((await task.pids({ id })).processes.length, 1);
    await refused(t, task.pause({ id }), 'FailedPrecondition', /the VM is paused/);
    await refused(t, task.delete({ id }), 'FailedPrecondition', /it is paused/);
    await task.resume({ id });
    t.match(await task.state({ id }), { status: 2 });
    io.type('echo resumed $((6 * 8))');
    await io.console.until('resumed 48');
  });

  await t.test('signals that end nothing', async (t) => {
    await task.kill({ id, signal: 0 });
    await task.kill({ id, signal: SIGWINCH });
    await refused(t, task.kill({ id, signal: 65 }), 'InvalidArgument', /signal 65/);
    t.match(await task.state({ id }), { status: 2 });
  });

  await t.test('CloseIO leaves the console as it is', async () => {
    await task.closeIO({ id, stdin: false });
    io.type('echo still $((6 * 9))');
    await io.console.until('still 54');
  });

  await t.test('Stats are the VM’s cgroup', (t) => checkStats(t, task, id));
  await t.test('Update', (t) => checkUpdate(t, shims, shim, io));

  await t.test('stopped by the power button', async (t) => {
    await task.kill({ id, signal: SIGTERM, all: true });
    await io.console.until('vmguest: power button');
    const [exit, ...others] = await Promise.all(waiters);
    const state = await task.state({ id });
    t.match(state, { status: 3, exitStatus: 0, exitedAt: exit?.exitedAt });
    t.equal(exit?.exitStatus, 0);
    for (const same of others) t.same(same, exit);
    t.same(await task.wait({ id }), exit, 'Wait after the exit');
    await io.ended;
    t.match(
      (await task.pids({ id })).processes,
      [{ pid: (await task.connect({ id })).shimPid }],
      'the shim keeps the exit',
    );
    t.equal(commandLine(state.pid), '', 'QEMU has gone');
    await refused(t, task.kill({ id, signal: SIGKILL }), 'NotFound', /process already finished/);
    await refused(t, task.pause({ id }), 'FailedPrecondition', /the VM is stopped/);
    await refused(t, task.start({ id }), 'FailedPrecondition');
    await refused(t, task.update({ id, resources: resources({ cpu: { shares: 2 } }) }), 'FailedPrecondition');
    await task.stats({ id });
    await task.resizePty({ id, width: 1, height: 1 });
    await task.closeIO({ id, stdin: true });

    t.same(await task.delete({ id }), { pid: state.pid, exitStatus: 0, exitedAt: exit?.exitedAt });
    await refused(t, task.delete({ id }), 'NotFound');
    await refused(t, task.wait({ id }), 'NotFound');
    await refused(t, task.state({ id }), 'NotFound');

    const messages = shims.events.of(id);
    await shims.events.until('delete', id);
    t.same(shims.events.topics(id), ['create', 'start', 'paused', 'resumed', 'exit', 'delete']);
    for (const event of messages) {
      t.equal(event.namespace, shims.namespace);
      t.equal(event.callNamespace, shims.namespace);
      t.match(event.typeUrl, /^containerd\.events\.Task[A-Z]/);
    }
    const [created, started, , , exited, deleted] = shims.events.of(id).map(({ message }) => message);
    const end = { pid: state.pid, exitStatus: 0, exitedAt: exit?.exitedAt };
    t.match(created, { bundle: shim.bundle, io: io.request, checkpoint: '', pid: state.pid });
    t.match(started, { pid: state.pid });
    t.match(exited, { id, ...end }, 'its id is the container’s');
    t.match(deleted, end);
  });

  await task.shutdown({ id });
  await Promise.all([task.ttrpc.closed, other.ttrpc.closed]);
  await processEnded(shim.pid);
  t.notOk(existsSync(shim.socketPath));
  const again = await shims.delete(id);
  t.equal(again.pid, 0, 'containerd’s `delete` after it finds nothing');
  rmSync(shim.bundle, { recursive: true });
});

void t.test('the root file system that containerd wants mounted', async (t) => {
  const shims = await ShimClient.make(t);
  const shim = await shims.shim('mounted', { root: 'rootfs' });
  const { id, task } = shim;
  const create = { id, bundle: shim.bundle };
  const image = join(shims.directory, 'image');
  const missing = { type: 'bind', source: '/nonexistent', options: ['rbind', 'ro'] };
  await refused(
    t,
    task.create({ ...create, rootfs: [missing] }),
    'FailedPrecondition',
    /cannot mount .*\/rootfs"/,
  );
  await refused(t, task.create(create), 'InvalidArgument', /the image has no "\/boot"/);
  await task.create({ ...create, rootfs: [{ type: 'bind', source: image, options: ['rbind', 'ro'] }] });
  t.notMatch(readFileSync('/proc/self/mountinfo', 'utf8'), shim.bundle, 'nothing stays mounted');
  await shims.events.until('create', id);
  t.match(shims.events.of(id)[0]?.message, {
    rootfs: [{ type: 'bind', source: image, options: ['rbind', 'ro'] }],
  });
  await shims.remove(shim);
});

async function checkStats(t: Test, task: TaskClient, id: string): Promise<void> {
  const read = async (): Promise<io.containerd.cgroups.v1.Metrics> => {
    const { stats } = await task.stats({ id });
    t.equal(stats?.typeUrl, 'io.containerd.cgroups.v1.Metrics');
    return io.containerd.cgroups.v1.Metrics.decode(stats?.value ?? new Uint8Array());
  };
  const first = await read();
  const used = first.memory?.usage?.usage ?? 0;
  t.ok(used > 32 * MIB && used < 512 * MIB, `a guest of 128 MiB uses ${used} bytes`);
  const limit = first.memory?.usage?.limit ?? 0;
  t.ok(limit > 256 * MIB && limit < 1024 * MIB, `RAM and what QEMU may need: ${limit}`);
  t.ok((first.memory?.totalRss ?? 0) + (first.memory?.usage?.usage ?? 0) > 0);
  t.ok((first.pids?.current ?? 0) >= 2, 'QEMU’s threads');
  const nanoseconds = first.cpu?.usage?.total ?? 0;
  t.ok(nanoseconds > 1e8 && nanoseconds < 1e12, `${nanoseconds} ns of CPU time for a boot`);
  const second = await read();
  t.ok((second.cpu?.usage?.total ?? 0) >= nanoseconds, 'CPU time grows');
}

async function checkUpdate(t: Test, shims: ShimClient, { task, id }: RunningShim, io: TaskIo): Promise<void> {
  const cgroup = (file: string): string =>
    readFileSync(join('/sys/fs/cgroup/cpu', shims.namespace, id, file), 'utf8').trim();
  t.equal(cgroup('cpu.shares'), '512', 'from config.json');
  await task.update({ id, resources: resources({ cpu: { shares: 256, quota: 50000, period: 100000 } }) });
  t.same(
    [cgroup('cpu.shares'), cgroup('cpu.cfs_quota_us'), cgroup('cpu.cfs_period_us')],
    ['256', '50000', '100000'],
  );
  await refused(
    t,
    task.update({ id, resources: resources({ cpu: { shares: 64, quota: 200_001 } }) }),
    'FailedPrecondition',
    /asks for 3 vCPUs, but VM "vm" was created for at most 2/,
  );
  t.same(
    [cgroup('cpu.shares'), cgroup('cpu.cfs_quota_us')],
    ['256', '50000'],
    'what is refused changes nothing',
  );
  await task.update({ id, resources: resources({ cpu: { quota: 150_000, period: 100_000 } }) });
  t.equal(cgroup('cpu.cfs_quota_us'), '150000');
  const cpus = async (): Promise<string | undefined> => {
    const from = io.console.text.length;
    io.type('echo "cpus=$(cat /sys/devices/system/cpu/present)"');
    return (await io.console.until(/cpus=([\d-]+)\s/, from))[1];
  };
  // The guest is told by an interrupt; each answer tells how far it is.
  while ((await cpus()) === '0');
  t.equal(await cpus(), '0-1', 'a CPU was plugged into the running guest');
  await task.update({
    id,
    resources: resources({ cpu: { shares: 0, quota: -1, period: 0 }, memory: { limit: -1 } }),
  });
  t.same([cgroup('cpu.shares'), cgroup('cpu.cfs_quota_us')], ['256', '-1'], '0 is a field that is not set');

  const larger = resources({ cpu: { shares: 128 }, memory: { limit: 128 * MIB + 2 * MIB } });
  await refused(
    t,
    task.update({ id, resources: larger }),
    'FailedPrecondition',
    /memory cannot grow to .*larger limit/,
  );
  t.equal(cgroup('cpu.shares'), '256', 'what is refused changes nothing');
  await refused(
    t,
    task.update({ id, resources: resources({ cpu: { shares: 'x' } }) }),
    'InvalidArgument',
    /cpu\.shares/,
  );
  await task.update(
    { id, resources: resources({ memory: { limit: 128 * MIB + 4096 } }) },
    { timeoutMs: 60_000 },
  );
  await task.update({ id });

  const free = async (): Promise<number> => {
    const from = io.console.text.length;
    io.type('mem');
    return Number((await io.console.until(/MemFree: +(\d+) kB/, from))[1]);
  };
  const before = await free();
  await task.update({ id, resources: resources({ memory: { limit: 104 * MIB } }) });
  // The balloon takes its time; each answer of the guest tells how far it is.
  while ((await free()) > before - 20_000);
  t.pass('the guest has given memory back');
}
