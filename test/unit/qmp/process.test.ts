import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { ProcessExit, SpawnedProcess, SpawnPlan } from '../../../src/host/host.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { isAlive } from '../../../src/host/process-identity.ts';
import { QemuProcess } from '../../../src/qemu/process.ts';
import { FakeQemu } from '../../support/fake-qemu.ts';
import { tempDir } from '../../support/temp-dir.ts';

/** Starts `sleep` in the place of QEMU and tells of its end when the test says so. */
class LateExitHost extends LinuxHost {
  readonly told = Promise.withResolvers<ProcessExit>();

  override spawn(plan: SpawnPlan): SpawnedProcess {
    const { pid } = super.spawn({ ...plan, file: '/bin/sleep', args: ['1000'] });
    return { pid, exited: this.told.promise };
  }
}

async function started(
  t: Test,
  seen: string[],
): Promise<{ host: LateExitHost; fake: FakeQemu; vm: QemuProcess }> {
  const host = new LateExitHost();
  const fake = await FakeQemu.start(t);
  const vm = await QemuProcess.start(host, {
    file: '/usr/bin/qemu-system-x86_64',
    command: { args: [], fds: [] },
    fds: [],
    fdOwner: { [Symbol.dispose]: () => seen.push('released') },
    qmpPath: fake.path,
    logPath: join(tempDir(t), 'qemu.log'),
    uid: 0,
    gid: 0,
    network: 'inherit',
    cwd: '/',
    onSpawn: () => seen.push('spawned'),
    onEvent: ({ name }) => seen.push(name),
  });
  t.teardown(() => {
    vm.kill();
    host.told.resolve({ kind: 'signaled', signal: 9 });
  });
  return { host, fake, vm };
}

void t.test('the last events come before the exit, whichever the kernel tells first', async (t) => {
  const seen: string[] = [];
  const { host, fake, vm } = await started(t, seen);
  t.ok(isAlive(host, vm.identity));
  vm.kill();
  const exited = vm.exited.then((exit) => {
    seen.push('exited');
    return exit;
  });
  host.told.resolve({ kind: 'exited', code: 0 });
  using events = vm.qmp.listen(['STOP']);
  fake.emit('STOP');
  await events.next();
  fake.emit('SHUTDOWN');
  fake.hangUp();
  t.same(await exited, { kind: 'exited', code: 0 });
  t.same(seen, ['released', 'spawned', 'STOP', 'SHUTDOWN', 'exited']);
});

void t.test('an exit does not wait for a QMP socket that somebody keeps open', async (t) => {
  const { host, vm } = await started(t, []);
  vm.kill();
  host.told.resolve({ kind: 'signaled', signal: 9 });
  t.same(await vm.exited, { kind: 'signaled', signal: 9 });
  t.equal(await vm.qmp.closed, undefined);
});
