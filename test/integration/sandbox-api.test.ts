/**
 * The sandbox API of a real shim, called as containerd 2.x with `sandboxer = "shim"` calls it, and as shimtest does. That
 * nothing is left is checked at the end of each test.
 */
import { existsSync, globSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { refused } from '../support/refused.ts';
import { podOptions, SandboxClient, type SandboxShim, sandboxShim } from '../support/sandbox-client.ts';
import { commandLine, processEnded, ShimClient } from '../support/shim-client.ts';
import type { TaskIo } from '../support/task-io.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

const SIGKILL = 9;
/** Seconds: more than the guest takes to power off on any machine. */
const GRACE = 60;

const POD = {
  metadata: { name: 'web-0', uid: 'b1c2', namespace: 'shop', attempt: 1 },
  hostname: 'web-0.shop',
  dnsConfig: { servers: ['10.96.0.10'], searches: ['shop.svc.cluster.local'] },
  portMappings: [{ protocol: 1, containerPort: 53, hostPort: 5353 }],
  annotations: { 'vmshim.io/cpus': '2', 'example.com/other': 'x' },
  linux: { cgroupParent: '/test-pods/podb1c2', overhead: { memoryLimitInBytes: 64 << 20 } },
};

/** Fields of a CreateSandboxRequest. */
const creation = ({ id, bundle }: SandboxShim, change: object = {}) => ({
  ...{ sandboxId: id, bundlePath: bundle, options: podOptions(POD), netnsPath: '/run/netns/of-web-0' },
  ...change,
});

/** Shutdown and what containerd does after it. */
async function end(t: Test, shims: ShimClient, shim: SandboxShim): Promise<void> {
  await shim.sandbox.shutdown({ sandboxId: shim.id });
  await shim.task.ttrpc.closed;
  await processEnded(shim.pid);
  t.notOk(existsSync(shim.socketPath), 'Shutdown takes the socket away');
  await shims.delete(shim.id);
  rmSync(shim.bundle, { recursive: true });
}

/** A ready sandbox with a VM in it whose guest has booted. */
async function podWithVm(
  shims: ShimClient,
  id: string,
): Promise<{ shim: SandboxShim; vm: string; pid: number; io: TaskIo }> {
  const shim = await sandboxShim(shims, id);
  await shim.sandbox.create(creation(shim, { netnsPath: '' }));
  await shim.sandbox.start({ sandboxId: id });
  const vm = `${id}-vm`;
  const cri = (key: string): string => `io.kubernetes.cri.${key}`;
  // containerd runs no `start` for the containers of a shim of version 3: they come on connections to the same socket.
  const bundle = await shims.makeBundle(vm, {
    annotations: {
      [cri('container-type')]: 'container',
      [cri('sandbox-id')]: id,
      [cri('sandbox-uid')]: POD.metadata.uid,
      [cri('sandbox-name')]: POD.metadata.name,
      [cri('sandbox-namespace')]: POD.metadata.namespace,
      [cri('container-name')]: 'vm',
      // A pod's guest outlives its shim otherwise.
      'vmshim.io/on-shim-death': 'kill',
    },
  });
  const io = shims.io(vm);
  const { pid } = await shim.task.create({ id: vm, bundle, ...io.request });
  await shim.task.start({ id: vm });
  await io.console.until('vmguest: ready');
  return { shim, vm, pid, io };
}

void t.test('the life of a sandbox', async (t) => {
  const shims = await ShimClient.make(t);
  const shim = await sandboxShim(shims, 'pod');
  const { sandbox, task, pid } = shim;
  const sandboxId = 'pod';
  const vm = { id: 'vm', bundle: await shims.makeBundle('vm') };

  await t.test('before it is created', async (t) => {
    await refused(t, sandbox.start({ sandboxId }), 'FailedPrecondition', /call CreateSandbox first/);
    for (const [name, call] of Object.entries({
      Platform: sandbox.platform({ sandboxId }),
      Stop: sandbox.stop({ sandboxId }),
      Wait: sandbox.wait({ sandboxId }),
      Status: sandbox.status({ sandboxId }),
      Ping: sandbox.ping({ sandboxId }),
      Metrics: sandbox.metrics({ sandboxId }),
    })) {
      await refused(t, call, 'NotFound', /sandbox "pod" is not created/, name);
    }
    await refused(t, sandbox.create(creation(shim, { sandboxId: '' })), 'InvalidArgument', /sandbox_id/);
  });

  await t.test('created', async (t) => {
    await sandbox.create(creation(shim));
    t.equal(
      readFileSync(join(shim.bundle, 'resolv.conf'), 'utf8'),
      'search shop.svc.cluster.local\nnameserver 10.96.0.10\n',
      'containerd leaves the pod’s resolv.conf to the shim',
    );
    await refused(t, sandbox.create(creation(shim)), 'AlreadyExists', /already exists/);
    await refused(
      t,
      sandbox.create(creation(shim, { sandboxId: 'other' })),
      'AlreadyExists',
      /has the sandbox "pod", which already exists/,
    );
    await refused(t, sandbox.start({ sandboxId: 'other' }), 'FailedPrecondition', /only "pod" was created/);
    await refused(t, sandbox.status({ sandboxId: 'other' }), 'NotFound');
    t.match(await sandbox.status({ sandboxId }), { sandboxId, state: 'SANDBOX_NOTREADY', exitedAt: null });
    await refused(t, task.create(vm), 'FailedPrecondition', /sandbox "pod" is created, not ready/);
  });

  const waiting = [sandbox.wait({ sandboxId }), sandbox.wait({ sandboxId })];

  await t.test('ready', async (t) => {
    const started = await sandbox.start({ sandboxId });
    t.equal(started.pid, pid, 'its pid is the shim’s');
    const age = Date.now() / 1000 - (started.createdAt?.seconds ?? 0);
    t.ok(age >= 0 && age < 600, 'it tells when it was created');
    await refused(t, sandbox.start({ sandboxId }), 'FailedPrecondition', /is ready now/);
    const { createdAt } = started;
    const status = await sandbox.status({ sandboxId });
    t.match(status, { state: 'SANDBOX_READY', pid, createdAt, info: {}, exitedAt: null });
    const { info } = await sandbox.status({ sandboxId, verbose: true });
    t.match(info, { pid: String(pid), state: 'SANDBOX_READY', networkSandboxPath: '/run/netns/of-web-0' });
    t.match(JSON.parse(info['pod'] ?? ''), {
      ...POD.metadata,
      attempt: undefined,
      hostname: POD.hostname,
      dns: { ...POD.dnsConfig, options: [] },
      portMappings: [{ protocol: 'UDP', containerPort: 53, hostPort: 5353, hostIp: '' }],
      overhead: { memoryBytes: 64 << 20 },
    });
    t.match(await sandbox.platform({ sandboxId }), { platform: { os: 'linux', architecture: 'amd64' } });
    await sandbox.ping({ sandboxId });
    const { metrics } = await sandbox.metrics({ sandboxId });
    t.match(metrics, { id: sandboxId, data: { typeUrl: /^io\.containerd\.cgroups\.v[12]\.Metrics$/ } });
  });

  await t.test('it is no task', async (t) => {
    t.match(await task.connect({ id: sandboxId }), { shimPid: pid, taskPid: 0 });
    await refused(t, task.pids({ id: sandboxId }), 'NotFound');
    await task.shutdown({ id: sandboxId, now: true });
    await sandbox.ping({ sandboxId });
    t.pass('Shutdown of a task is not for a shim with a sandbox');
    const other = await shims.connect(shim.socketPath, 2);
    t.equal((await other.connect({ id: sandboxId })).shimPid, pid, 'a restarted containerd connects again');
  });

  await t.test('stopped', async (t) => {
    await sandbox.stop({ sandboxId });
    await sandbox.stop({ sandboxId, timeoutSecs: GRACE });
    const [exit, same] = await Promise.all(waiting);
    t.match(exit, { exitStatus: 128 + SIGKILL });
    t.same(same, exit);
    t.same(await sandbox.wait({ sandboxId }), exit, 'Wait after the end');
    const { exitedAt } = exit!;
    t.match(await sandbox.status({ sandboxId, verbose: true }), {
      ...{ state: 'SANDBOX_NOTREADY', exitedAt, info: { state: 'SANDBOX_NOTREADY' } },
    });
    await refused(t, sandbox.create(creation(shim)), 'AlreadyExists');
    await refused(t, sandbox.start({ sandboxId }), 'FailedPrecondition', /is stopped now/);
    await refused(t, task.create(vm), 'FailedPrecondition', /is stopped, not ready; run the pod again/);
  });

  rmSync(vm.bundle, { recursive: true });
  await end(t, shims, shim);
  t.same(shims.events.received, [], 'containerd itself tells of sandboxes');
});

void t.test('a sandbox that is not created', async (t) => {
  const shims = await ShimClient.make(t);
  const shim = await sandboxShim(shims, 'pod');
  const create = (change: object): Promise<unknown> => shim.sandbox.create(creation(shim, change));
  const annotations = { 'vmshim.io/memmory': '1Gi' };
  await refused(
    t,
    create({ options: podOptions({ ...POD, annotations }) }),
    'InvalidArgument',
    /unknown annotation "vmshim.io\/memmory".*vmshim.io\/memory/,
  );
  const value = Buffer.from('\n\xff', 'latin1');
  await refused(t, create({ options: { typeUrl: 'x.Y', value } }), 'InvalidArgument', /are a "x\.Y"/);
  const typeUrl = 'runtime.v1.PodSandboxConfig';
  await refused(t, create({ options: { typeUrl, value } }), 'InvalidArgument', /although they say so/);
  const linux = { cgroupParent: '/../out' };
  await refused(t, create({ options: podOptions({ ...POD, linux }) }), 'InvalidArgument', /cgroupsPath/);
  await refused(t, shim.sandbox.status({ sandboxId: 'pod' }), 'NotFound');
  // containerd's next call; the process must not stay for the sake of a sandbox that is none.
  await end(t, shims, shim);
});

void t.test('a client that is not CRI gives a config.json and no options', async (t) => {
  const shims = await ShimClient.make(t);
  const shim = await shims.shim('pod', { version: 3 });
  const sandbox = new SandboxClient(shim.task.ttrpc);
  await sandbox.create({ sandboxId: 'pod', bundlePath: shim.bundle });
  t.equal((await sandbox.start({ sandboxId: 'pod' })).pid, shim.pid);
  t.match(await sandbox.status({ sandboxId: 'pod', verbose: true }), {
    info: { networkSandboxPath: '', pod: undefined },
  });
  await end(t, shims, { ...shim, sandbox });
});

void t.test('the pod’s VM', async (t) => {
  const shims = await ShimClient.make(t);

  await t.test('Stop presses the power button and waits for the guest', async (t) => {
    const { shim, vm, pid, io } = await podWithVm(shims, 'graceful');
    const sandboxId = shim.id;
    const waiting = shim.sandbox.wait({ sandboxId });
    await shim.sandbox.stop({ sandboxId, timeoutSecs: GRACE });
    await io.console.until('vmguest: power button');
    t.equal(commandLine(pid), '', 'QEMU has gone when Stop returns');
    t.match(await waiting, { exitStatus: 143 });
    t.match(await shim.task.wait({ id: vm }), { exitStatus: 0 });
    t.match(await shim.task.state({ id: vm }), { status: 3 }, 'its task is there until it is deleted');
    await shim.task.delete({ id: vm });
    t.match(await shim.sandbox.status({ sandboxId }), { state: 'SANDBOX_NOTREADY' });
    rmSync(shims.bundle(vm), { recursive: true });
    await end(t, shims, shim);
  });

  await t.test('a second Stop with less grace ends what the first waits for', async (t) => {
    const { shim, vm, io } = await podWithVm(shims, 'deaf');
    const sandboxId = shim.id;
    io.type('hang');
    await io.console.until('deaf to the power button');
    const patient = shim.sandbox.stop({ sandboxId, timeoutSecs: 4_000_000_000 });
    // Nothing tells that a stop has begun but the state.
    while ((await shim.sandbox.status({ sandboxId })).state === 'SANDBOX_READY');
    t.match(await shim.task.state({ id: vm }), { status: 2 }, 'it has grace');
    await shim.sandbox.stop({ sandboxId, timeoutSecs: 1 });
    await patient;
    t.match(await shim.task.wait({ id: vm }), { exitStatus: 128 + SIGKILL });
    await shim.task.delete({ id: vm });
    rmSync(shims.bundle(vm), { recursive: true });
    await end(t, shims, shim);
  });

  await t.test('Shutdown takes a running VM along', async (t) => {
    const { shim, vm, pid } = await podWithVm(shims, 'running');
    const names = globSync(`${shim.bundle}/vmshim-member-*`);
    t.match(
      names.map((path) => readFileSync(path, 'utf8').trim()),
      [vmRecord(shims, vm, shims.namespace).runDir],
    );
    await end(t, shims, shim);
    t.equal(commandLine(pid), '');
    await shims.events.until('delete', vm);
    t.same(shims.events.topics(vm), ['create', 'start', 'exit', 'delete']);
    rmSync(shims.bundle(vm), { recursive: true });
  });

  await t.test('the sandbox’s `delete` alone cleans up after a killed shim', async (t) => {
    const { shim, vm, pid } = await podWithVm(shims, 'crashed');
    const record = vmRecord(shims, vm, shims.namespace);
    t.equal(pidOf(record.qemu), pid);
    await shims.delete(shim.id);
    t.match(commandLine(pid), /qemu-system/, 'the VM of a shim that lives is left alone');
    process.kill(shim.pid, 'SIGKILL');
    await processEnded(shim.pid);
    t.match(commandLine(pid), /qemu-system/, 'the VM outlives its shim');
    t.match(await shims.delete(shim.id), { exitStatus: 137 });
    t.equal(commandLine(pid), '');
    t.notOk(existsSync(record.runDir));
    t.notOk(existsSync(shim.socketPath));
    await shims.delete(shim.id);
    rmSync(shim.bundle, { recursive: true });
    rmSync(shims.bundle(vm), { recursive: true });
  });
});
