import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import { containerd as wire } from '#wire';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { bootId, readIdentity } from '../../src/host/process-identity.ts';
import { vmNames } from '../../src/vm/names.ts';
import { RECORD_FORMAT, type VmRecord } from '../../src/vm/record.ts';
import { shimPath } from '../support/containerd.ts';
import { commandLine, processEnded, ShimClient } from '../support/shim-client.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

const host = new LinuxHost();

/** What `delete` writes to stdout, run in a working directory that a script may remove before. */
async function runShim(shims: ShimClient, cwd: string, script: string, args: string[]): Promise<Buffer> {
  const child = spawn('/bin/sh', ['-c', `${script}\nexec "$0" "$@"`, shimPath, ...args], {
    cwd,
    env: {
      SHIM_SOCKET_DIR: join(shims.directory, 's'),
      VMSHIM_CONFIG: join(shims.directory, 'vmshim.toml'),
    },
    // A shell without a working directory says so on stderr, which containerd reads apart from the answer.
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const closed = new Promise<number>((resolve) => child.once('close', (code) => resolve(code ?? -1)));
  const [output, status] = await Promise.all([buffer(child.stdout), closed]);
  if (status !== 0) throw new Error(`${args.join(' ')} ended with ${status}: ${output.toString()}`);
  return output;
}

void t.test('delete by hand', async (t) => {
  const shims = await ShimClient.make(t);
  const stateDir = join(shims.directory, 'vms');
  const remove = async (t: Test, id: string, script = ''): Promise<wire.task.DeleteResponse> => {
    const bundle = shims.bundle(id);
    const flags = [
      '-namespace',
      shims.namespace,
      '-address',
      shims.grpcAddress,
      '-publish-binary',
      '/usr/bin/containerd',
    ];
    const begun = performance.now();
    const cwd = existsSync(bundle) ? bundle : '/';
    const output = await runShim(shims, cwd, script, [...flags, '-id', id, '-bundle', bundle, 'delete']);
    t.comment(`delete took ${Math.round(performance.now() - begun)} ms`);
    return wire.task.DeleteResponse.decode(output);
  };
  /** A VM whose shim was killed, and nobody noticed. */
  const orphan = async (id: string): Promise<VmRecord> => {
    const shim = await shims.shim(id);
    await shim.task.create({ id, bundle: shim.bundle });
    await shim.task.start({ id });
    process.kill(shim.pid, 'SIGKILL');
    await processEnded(shim.pid);
    return vmRecord(shims, id, shims.namespace);
  };
  const expectGone = (t: Test, { qemu, runDir, logDir, shimSocket }: VmRecord): void => {
    t.equal(commandLine(pidOf(qemu)), '');
    for (const path of [runDir, logDir, shimSocket ?? '']) t.equal(existsSync(path), false, path);
  };

  await t.test('undoes everything, and once more when there is nothing to undo', async (t) => {
    const record = await orphan('twice');
    t.match(await remove(t, 'twice'), { pid: pidOf(record.qemu), exitStatus: 137 });
    expectGone(t, record);
    t.match(await remove(t, 'twice'), { pid: 0, exitStatus: 137 });
    t.match(await remove(t, 'twice', 'rm -r "$PWD"'), { pid: 0, exitStatus: 137 });
    t.equal(existsSync(shims.bundle('twice')), false);
    t.match(await remove(t, 'twice'), { pid: 0, exitStatus: 137 });
  });

  await t.test('finds the VM without its bundle', async (t) => {
    const record = await orphan('bundle-gone');
    t.match(await remove(t, 'bundle-gone', 'rm -r "$PWD"'), { pid: pidOf(record.qemu), exitStatus: 137 });
    expectGone(t, record);
  });

  await t.test('several at once', async (t) => {
    const record = await orphan('at-once');
    await Promise.all(Array.from({ length: 4 }, () => remove(t, 'at-once')));
    expectGone(t, record);
    rmSync(shims.bundle('at-once'), { recursive: true });
  });

  await t.test('needs no configuration file that can be read', async (t) => {
    const record = await orphan('config');
    const path = join(shims.directory, 'vmshim.toml');
    const before = readFileSync(path);
    writeFileSync(path, 'qmeu = 1\n');
    await remove(t, 'config');
    writeFileSync(path, before);
    expectGone(t, record);
    rmSync(shims.bundle('config'), { recursive: true });
  });

  await t.test('a shim that never saw a Create leaves its socket', async (t) => {
    const shim = await shims.shim('no-create');
    process.kill(shim.pid, 'SIGKILL');
    await processEnded(shim.pid);
    await remove(t, 'no-create');
    t.equal(existsSync(shim.socketPath), false);
    rmSync(shim.bundle, { recursive: true });
  });

  await t.test('a shim that lives keeps its socket', async (t) => {
    const shim = await shims.shim('alive');
    await remove(t, 'alive');
    t.ok(existsSync(shim.socketPath));
    await shims.end(shim);
  });

  /** A process that stands for a QEMU, and a record that is ours but for `change`. */
  const staged = (
    id: string,
    change: (pid: number, startTime: number) => Partial<VmRecord>,
  ): { process: ChildProcess; record: VmRecord } => {
    const { key, runDir, record: path } = vmNames(stateDir, shims.namespace, id);
    const child = spawn('sleep', ['infinity'], { env: { VMSHIM_KEY: key }, stdio: 'ignore' });
    const pid = child.pid ?? 0;
    const record: VmRecord = {
      format: RECORD_FORMAT,
      id,
      namespace: shims.namespace,
      name: id,
      bundle: shims.bundle(id),
      bootId: bootId(host),
      createdAt: Date.now(),
      runDir,
      key,
      mountPoint: undefined,
      cgroup: `/${shims.namespace}/${id}`,
      qemu: undefined,
      shim: undefined,
      podUid: undefined,
      rootDisk: undefined,
      progress: undefined,
      disks: [],
      nics: [],
      numa: undefined,
      logDir: join(shims.directory, 'data/vms', key),
      shimSocket: undefined,
      exit: undefined,
      survival: undefined,
      orphan: undefined,
      power: undefined,
      ...change(pid, readIdentity(host, pid)?.startTime ?? 0),
    };
    mkdirSync(runDir, { recursive: true });
    writeFileSync(path, JSON.stringify(record));
    return { process: child, record };
  };

  await t.test('a QEMU whose pid nobody wrote down is found by its mark', async (t) => {
    const { process: child, record } = staged('marked', () => ({}));
    const ended = once(child, 'exit');
    await remove(t, 'marked');
    t.strictSame(await ended, [null, 'SIGKILL']);
    t.equal(existsSync(record.runDir), false);
  });

  for (const [what, change] of [
    ['an earlier boot', (pid, startTime) => ({ qemu: { pid, startTime }, bootId: 'earlier' })],
    ['a process that had its pid before', (pid, startTime) => ({ qemu: { pid, startTime: startTime - 1 } })],
  ] as [string, (pid: number, startTime: number) => Partial<VmRecord>][]) {
    await t.test(`a process is not killed for ${what}`, async (t) => {
      const { process: child, record } = staged('spared', change);
      await remove(t, 'spared');
      t.equal(existsSync(record.runDir), false);
      t.match(commandLine(child.pid ?? 0), 'sleep infinity');
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      t.strictSame(await ended, [null, 'SIGTERM']);
    });
  }

  await t.test('a Create undoes what nobody deleted', async (t) => {
    const record = await orphan('again');
    rmSync(shims.bundle('again'), { recursive: true });
    const shim = await shims.shim('again');
    const { pid } = await shim.task.create({ id: 'again', bundle: shim.bundle });
    t.equal(commandLine(pidOf(record.qemu)), '');
    t.not(pid, pidOf(record.qemu));
    await shims.remove(shim);
  });

  await t.test('a Create touches no VM that another containerd’s shim runs', async (t) => {
    const shim = await shims.shim('shared');
    const { pid } = await shim.task.create({ id: 'shared', bundle: shim.bundle });
    const other = await shims.start('shared', { flags: ['-address', '/run/other-containerd.sock'] });
    const task = await shims.connect(other.output.toString().replace(/.*unix:\/\/|".*/gs, ''));
    const { shimPid } = await task.connect({ id: 'shared' });
    t.not(shimPid, shim.pid);
    await t.rejects(task.create({ id: 'shared', bundle: shim.bundle }), {
      message: new RegExp(
        `VM "shared" .* is run by shim process ${shim.pid} already .* a state_dir of its own`,
      ),
    });
    await task.shutdown({ id: 'shared' });
    await processEnded(shimPid);
    t.match(await shim.task.state({ id: 'shared' }), { pid });
    await shims.remove(shim);
  });
});
