/** A VM whose shim was killed and whose `delete` was ended before it came to anything, as containerd does after 5 s. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { vmNames } from '../../src/vm/names.ts';
import { shimPath } from '../support/containerd.ts';
import { commandLine, processEnded, type RunningShim, ShimClient } from '../support/shim-client.ts';
import { guestRoot } from '../support/test-bundle.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

const cri = (key: string): string => `io.kubernetes.cri.${key}`;

void t.test('a pod’s next VM ends the one that nobody cleaned up, and has its disk', async (t) => {
  const shims = await ShimClient.make(t);
  const root = await guestRoot(join(shims.directory, 'with-disk'));
  mkdirSync(join(root, 'disk'));
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', join(root, 'disk/root.qcow2'), '16M']);

  const sandbox = async (id: string, uid: string): Promise<RunningShim> => {
    const annotations = {
      [cri('container-type')]: 'sandbox',
      [cri('sandbox-id')]: id,
      [cri('sandbox-uid')]: uid,
    };
    const shim = await shims.shim(id, { annotations });
    await shim.task.create({ id, bundle: shim.bundle });
    await shim.task.start({ id });
    return shim;
  };
  const makeVm = async (pod: RunningShim, uid: string): Promise<{ id: string; qemu: number }> => {
    const id = `${pod.id}-vm`;
    const annotations = {
      [cri('container-type')]: 'container',
      [cri('sandbox-id')]: pod.id,
      [cri('sandbox-uid')]: uid,
      [cri('container-name')]: 'vm',
      'vmshim.io/on-shim-death': 'kill',
    };
    await pod.task.create({ id, bundle: await shims.makeBundle(id, { annotations, root }) });
    return { id, qemu: pidOf(vmRecord(shims, id, shims.namespace).qemu) };
  };
  /** The shim dies, and so does its `delete`, at once. */
  const forget = async (pod: RunningShim): Promise<void> => {
    process.kill(pod.pid, 'SIGKILL');
    await processEnded(pod.pid);
    const flags = ['-namespace', shims.namespace, '-address', shims.grpcAddress, '-id', pod.id];
    const child = spawn(shimPath, [...flags, '-bundle', pod.bundle, 'delete'], { stdio: 'ignore' });
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    t.strictSame(await ended, [null, 'SIGKILL']);
  };
  const endPod = async (pod: RunningShim, vm: string): Promise<void> => {
    await pod.task.kill({ id: vm, signal: 9 });
    await pod.task.wait({ id: vm });
    await pod.task.delete({ id: vm });
    rmSync(shims.bundle(vm), { recursive: true });
    await shims.remove(pod);
  };

  const first = await sandbox('first', 'uid-a');
  const old = await makeVm(first, 'uid-a');
  const stranger = await sandbox('stranger', 'uid-b');
  const other = await makeVm(stranger, 'uid-b');
  await forget(first);
  await forget(stranger);
  t.match(commandLine(old.qemu), 'qemu-system');

  const next = await sandbox('next', 'uid-a');
  const vm = await makeVm(next, 'uid-a');
  t.equal(commandLine(old.qemu), '', 'its QEMU has ended');
  t.notOk(existsSync(vmNames(join(shims.directory, 'vms'), shims.namespace, old.id).runDir));
  t.match(commandLine(vm.qemu), 'qemu-system');
  t.match(commandLine(other.qemu), 'qemu-system', 'another pod’s is none of its business');

  await t.test('one whose shim lives is not touched', async (t) => {
    const rival = await sandbox('rival', 'uid-a');
    await t.rejects(makeVm(rival, 'uid-a'), { message: /root disk .* is in use by VM/ });
    t.match(commandLine(vm.qemu), 'qemu-system');
    rmSync(shims.bundle('rival-vm'), { recursive: true });
    await shims.remove(rival);
  });

  await endPod(next, vm.id);
  // What containerd does when it starts again.
  for (const { id } of [first, stranger]) {
    await shims.delete(id);
    for (const name of [id, `${id}-vm`]) rmSync(shims.bundle(name), { recursive: true });
  }
});
