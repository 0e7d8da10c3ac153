import { execFileSync } from 'node:child_process';
import { existsSync, globSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { containerd } from '#wire';
import { decodeResponse, encodeRequestFrame, type Response } from '../../src/ttrpc/envelope.ts';
import { FrameDecoder } from '../../src/ttrpc/frame.ts';
import { vmNames } from '../../src/vm/names.ts';
import { refused } from '../support/refused.ts';
import { processEnded, type RunningShim, ShimClient } from '../support/shim-client.ts';

/** A pod whose sandbox runs, and a QEMU that says its pid and then hangs before it has answered anything. */
interface HangingPod {
  readonly shims: ShimClient;
  readonly sandbox: RunningShim;
  /** Fields of a Create that hangs. */
  readonly create: { readonly id: string; readonly bundle: string; readonly options: object };
  /** Resolves with QEMU's pid when the next Create hangs. */
  readonly hanging: () => Promise<number>;
  /** Asserts that a Create whose QEMU had this pid has left nothing. */
  readonly rolledBack: (t: Test, pid: number) => Promise<void>;
}

async function hangingPod(t: Test): Promise<HangingPod> {
  const shims = await ShimClient.make(t);
  const inPod = { 'io.kubernetes.cri.sandbox-id': 'pod' };
  const sandbox = await shims.shim('pod', {
    annotations: { ...inPod, 'io.kubernetes.cri.container-type': 'sandbox' },
  });
  await sandbox.task.create({ id: 'pod', bundle: sandbox.bundle });
  await sandbox.task.start({ id: 'pod' });
  const bundle = await shims.makeBundle('vm', { annotations: inPod });
  const reached = join(shims.directory, 'reached');
  execFileSync('mkfifo', ['-m', '0666', reached]);
  const config = shims.configWithQemu('hanging', `echo $$ >${reached}; exec sleep 1000000`);
  const names = vmNames(join(shims.directory, 'vms'), shims.namespace, 'vm');
  return {
    shims,
    sandbox,
    create: { id: 'vm', bundle, options: shims.options(config) },
    hanging: async () => Number(await readFile(reached, 'utf8')),
    rolledBack: async (t, pid) => {
      await processEnded(pid);
      const left = (): string[] => [
        ...globSync(`/sys/fs/cgroup/*/${shims.namespace}/vm`),
        ...[names.runDir, join(shims.directory, 'data/vms', names.key)].filter((path) => existsSync(path)),
      ];
      while (left().length > 0) await delay(5);
      t.equal((await sandbox.task.connect({ id: 'vm' })).taskPid, 0);
      t.same(shims.events.topics('vm'), [], 'no event tells of it');
    },
  };
}

/** A Create whose client tells its deadline and then just waits, unlike ours, which would give up by itself. */
async function callWithDeadline(
  socketPath: string,
  create: containerd.task.CreateTaskRequest.$Properties,
  timeoutNano: bigint,
): Promise<Response> {
  const socket = connect({ path: socketPath });
  const payload = containerd.task.CreateTaskRequest.encode(create).finish();
  const request = {
    service: 'containerd.task.v2.Task',
    method: 'Create',
    payload,
    timeoutNano,
    metadata: new Map(),
  };
  socket.write(encodeRequestFrame(1, 0, request));
  const decoder = new FrameDecoder();
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    for (const frame of decoder.push(chunk)) if (frame.kind === 'frame') return decodeResponse(frame.data);
  }
  throw new Error('the shim hung up');
}

void t.test('a Create that hangs', async (t) => {
  const { shims, sandbox, create, hanging, rolledBack } = await hangingPod(t);
  const { task } = sandbox;
  const { id } = create;

  await t.test('keeps nobody waiting, and Delete calls it off', async (t) => {
    const creating = refused(
      t,
      task.create(create),
      'Canceled',
      /"vm" was deleted while it was being created/,
    );
    const pid = await hanging();
    t.match(await task.state({ id: 'pod' }), { status: 2 });
    t.match(await task.connect({ id: 'pod' }), { taskPid: sandbox.pid });
    t.equal((await task.pids({ id: 'pod' })).processes.length, 1);
    await task.stats({ id: 'pod' });
    await refused(t, task.state({ id }), 'NotFound');
    await refused(t, task.kill({ id, signal: 9 }), 'NotFound');
    t.equal((await task.connect({ id })).taskPid, 0);
    await refused(t, task.create(create), 'AlreadyExists', /"vm" already exists/);
    await refused(t, task.create({ ...create, id: 'vm2' }), 'FailedPrecondition', /has a VM already/);
    await task.shutdown({ id });
    t.match(await task.state({ id: 'pod' }), { status: 2 }, 'Shutdown is ignored');
    await refused(t, task.delete({ id }), 'NotFound');
    await creating;
    await rolledBack(t, pid);
  });

  await t.test('is rolled back at its deadline', async (t) => {
    const answer = callWithDeadline(sandbox.socketPath, create, 8_000_000_000n);
    const pid = await hanging();
    t.match((await answer).status, { code: 4, message: /deadline/ }, 'the shim itself says so');
    await rolledBack(t, pid);
    t.match(
      (await callWithDeadline(sandbox.socketPath, create, -1n)).status,
      { code: 4 },
      'it had passed before',
    );
  });

  await t.test('is rolled back when its client has gone', async (t) => {
    const client = await shims.connect(sandbox.socketPath, 3);
    const creating = refused(t, client.create(create), 'Unavailable');
    const pid = await hanging();
    client.ttrpc.close();
    await creating;
    await rolledBack(t, pid);
  });

  await t.test('leaves a pod in which the next Create works', async (t) => {
    const { pid } = await task.create({ id, bundle: create.bundle });
    t.ok(pid > 0);
    await task.delete({ id });
    await shims.events.until('delete', id);
    t.same(shims.events.topics(id), ['create', 'exit', 'delete'], 'a task that was never started');
    t.match(shims.events.of(id).at(-1)?.message, { exitStatus: 137 });
    await shims.delete(id);
    rmSync(create.bundle, { recursive: true });
  });

  await task.kill({ id: 'pod', signal: 15 });
  t.equal((await task.wait({ id: 'pod' })).exitStatus, 143);
  await task.delete({ id: 'pod' });
  await shims.end(sandbox);
});

void t.test('a shim whose client vanished before anything was created ends by itself', async (t) => {
  const shims = await ShimClient.make(t);
  const shim = await shims.shim('vm', { env: { VMSHIM_IDLE_MS: '1500' } });
  const reached = join(shims.directory, 'reached');
  execFileSync('mkfifo', ['-m', '0666', reached]);
  const config = shims.configWithQemu('hanging', `echo $$ >${reached}; exec sleep 1000000`);
  shim.task.create({ id: 'vm', bundle: shim.bundle, options: shims.options(config) }).catch(() => undefined);
  const pid = Number(await readFile(reached, 'utf8'));
  t.same(shims.daemons(), [shim.pid], 'the time to be idle does not run while something is created');
  shim.task.ttrpc.close();
  await processEnded(pid);
  await processEnded(shim.pid);
  t.notOk(existsSync(shim.socketPath));
  t.match(await shims.delete('vm'), { pid: 0 });
  rmSync(shim.bundle, { recursive: true });
});
