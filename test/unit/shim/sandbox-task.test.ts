import t from 'tap';
import { Sandbox } from '../../../src/shim/sandbox.ts';
import { SandboxTask } from '../../../src/shim/sandbox-task.ts';

function sandbox(): SandboxTask {
  const request = { id: 's1', bundle: '/b', terminal: false, stdin: '', stdout: '', stderr: '' };
  const metrics = () => Promise.resolve({ typeUrl: 'metrics', value: new Uint8Array() });
  return new SandboxTask(
    request,
    new Sandbox({ id: 's1', bundle: '/b', netns: undefined, resolvConf: undefined, pod: undefined, metrics }),
  );
}

const signal = new AbortController().signal;

void t.test('the sandbox task of a pod', async (t) => {
  await t.test('lives from start to a signal that ends', async (t) => {
    const task = sandbox();
    const seen: string[] = [];
    t.equal(task.status, 'created');
    t.equal(task.pid, process.pid, 'a live process');
    await task.start(signal, () => seen.push('started'));
    t.same(seen, ['started']);
    t.equal(task.status, 'running');
    await task.kill(0);
    await task.kill(28); // SIGWINCH
    t.equal(task.status, 'running');
    await task.kill(15);
    t.equal(task.status, 'stopped');
    t.equal((await task.stopped).status, 143);
    t.equal((await task.delete()).status, 143);
  });

  await t.test('refuses what its state does not allow', async (t) => {
    const task = sandbox();
    await task.start(signal, () => undefined);
    await t.rejects(
      task.start(signal, () => undefined),
      { kind: 'FailedPrecondition', name: 'VmError' },
    );
    await t.rejects(task.delete(), { kind: 'FailedPrecondition', name: 'VmError' });
    await t.rejects(task.pause(), { message: /it has no process; pause the VM’s container/ });
    await task.kill(9);
    await t.rejects(task.kill(9), { kind: 'NotFound', name: 'VmError' });
  });

  await t.test('is deleted before it was started, and released whatever it does', async (t) => {
    t.equal((await sandbox().delete()).status, 137);
    const task = sandbox();
    await task.start(signal, () => undefined);
    await task.release();
    t.equal(task.status, 'stopped');
  });
});
