import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { buildAddon } from '../../../scripts/build-addon.ts';
import { cgroupPids, createCgroup, joinCgroup, removeCgroup } from '../../../src/host/cgroup.ts';
import { killCgroup } from '../../../src/host/cgroup-kill.ts';
import { parseCgroupLayout } from '../../../src/host/cgroup-layout.ts';
import { controllerDir, planCgroup } from '../../../src/host/cgroup-plan.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { loadNative } from '../../../src/host/native.ts';
import { tempDir } from '../../support/temp-dir.ts';
import { startSleeper } from './sleeper.ts';
import { onlyVersion, realLayout, testCgroup, versions } from './test-cgroup.ts';

buildAddon();
const native = loadNative();
const host = new LinuxHost();
const soon = (): AbortSignal => AbortSignal.timeout(10_000);

/** Hierarchies in which /proc says the process is at `path`. */
function placesOf(pid: number, path: string): number {
  return readFileSync(`/proc/${pid}/cgroup`, 'utf8')
    .split('\n')
    .filter((line) => line.endsWith(`:${path}`)).length;
}

void t.test(
  'a process joins a new cgroup in every hierarchy, and the cgroup stays as long as it lives',
  async (t) => {
    const cgroup = testCgroup(t);
    t.strictSame(cgroupPids(host, cgroup), [], 'an absent cgroup has no process');
    createCgroup(host, cgroup);
    createCgroup(host, cgroup);
    for (const { dir } of cgroup.dirs) t.ok(host.inspect(dir), dir);
    const sleeper = startSleeper(t);
    joinCgroup(host, cgroup, sleeper.pid);
    t.equal(placesOf(sleeper.pid, cgroup.path), realLayout.hierarchies.length);
    t.strictSame(cgroupPids(host, cgroup), [sleeper.pid]);

    await t.rejects(removeCgroup(host, cgroup, soon()), {
      kind: 'FailedPrecondition',
      message: new RegExp(`process ${sleeper.pid} is in it; kill it first`),
    });
    await killCgroup(host, native, cgroup, soon());
    await removeCgroup(host, cgroup, soon());
    for (const { dir } of cgroup.dirs) t.equal(host.inspect(dir), undefined, dir);
    t.equal(await sleeper.exited, 'SIGKILL');
    await removeCgroup(host, cgroup, soon());
    await killCgroup(host, native, cgroup, soon());
    t.throws(() => joinCgroup(host, cgroup, sleeper.pid), { name: 'VmError' });
  },
);

for (const version of versions) {
  void t.test(`v${version} alone: all processes die, those below too, and everything goes`, async (t) => {
    const cgroup = testCgroup(t, onlyVersion(version));
    const below = planCgroup(onlyVersion(version), `${cgroup.path}/deeper/still`, 'x');
    for (const { dir } of below.dirs) host.makeDir(dir, 0o755);
    createCgroup(host, onlyVersion(version).kind === 'v1' ? below : { ...below, dirs: [] });
    const sleepers = [startSleeper(t), startSleeper(t), startSleeper(t)];
    const bystander = startSleeper(t);
    for (const { pid } of sleepers.slice(1)) joinCgroup(host, cgroup, pid);
    joinCgroup(host, below, sleepers[0]!.pid);
    t.strictSame(
      cgroupPids(host, cgroup),
      sleepers.map(({ pid }) => pid).sort((a, b) => a - b),
    );
    await killCgroup(host, native, cgroup, soon());
    t.strictSame(cgroupPids(host, cgroup), []);
    for (const { exited } of sleepers) t.equal(await exited, 'SIGKILL');
    await removeCgroup(host, cgroup, soon());
    t.ok(cgroup.dirs.every(({ dir }) => host.inspect(dir) === undefined));
    t.equal(process.kill(bystander.pid, 0), true);
  });
}

if (versions.includes(2)) {
  void t.test('v2 is killed by cgroup.kill, without a signal to any process', async (t) => {
    const cgroup = testCgroup(t, onlyVersion(2));
    for (const { dir } of cgroup.dirs) host.makeDir(dir, 0o755);
    const sleepers = [startSleeper(t), startSleeper(t)];
    for (const { pid } of sleepers) joinCgroup(host, cgroup, pid);
    const harmless = { ...native, pidfdSendSignal: () => undefined };
    await killCgroup(host, harmless, cgroup, soon());
    for (const { exited } of sleepers) t.equal(await exited, 'SIGKILL');
  });
}

if (versions.includes(1)) {
  void t.test('a frozen cgroup is killed all the same', async (t) => {
    const cgroup = testCgroup(t, onlyVersion(1));
    createCgroup(host, cgroup);
    const sleeper = startSleeper(t);
    joinCgroup(host, cgroup, sleeper.pid);
    host.writeText(join(controllerDir(cgroup, 'freezer')!.dir, 'freezer.state'), 'FROZEN');
    await killCgroup(host, native, cgroup, soon());
    t.equal(await sleeper.exited, 'SIGKILL');
  });
}

if (versions.includes(1)) {
  void t.test('killing gives up with its signal and names who is left', async (t) => {
    const cgroup = testCgroup(t);
    createCgroup(host, cgroup);
    const sleeper = startSleeper(t);
    joinCgroup(host, cgroup, sleeper.pid);
    const harmless = { ...native, pidfdSendSignal: () => undefined };
    const v1 = { ...cgroup, dirs: cgroup.dirs.filter(({ hierarchy }) => hierarchy.version === 1) };
    await t.rejects(killCgroup(host, harmless, v1, AbortSignal.timeout(20)), {
      kind: 'DeadlineExceeded',
      message: new RegExp(`process ${sleeper.pid} is left in it`),
    });
    await killCgroup(host, native, cgroup, soon());
  });
}

void t.test('we do not kill ourselves', async (t) => {
  const dir = tempDir(t);
  mkdirSync(join(dir, 'a'));
  writeFileSync(join(dir, 'a/cgroup.procs'), `${process.pid}\n`);
  writeFileSync(join(dir, 'a/cgroup.kill'), '');
  const cgroup = planCgroup(parseCgroupLayout('1 1 0:1 / / rw - cgroup2 cgroup2 rw', dir), '/a', 'x');
  await t.rejects(killCgroup(host, native, cgroup, soon()), {
    kind: 'FailedPrecondition',
    message: /is in it/,
  });
  t.equal(readFileSync(join(dir, 'a/cgroup.kill'), 'utf8'), '');
});

if (versions.includes(1)) {
  void t.test('a new v1 cpuset has CPUs and memory nodes at every level', (t) => {
    const cgroup = testCgroup(t);
    createCgroup(host, cgroup);
    const { dir, hierarchy } = controllerDir(cgroup, 'cpuset')!;
    for (const file of ['cpuset.cpus', 'cpuset.mems']) {
      const whole = host.readText(join(hierarchy.mountPoint, file));
      t.not(whole.trim(), '');
      t.equal(host.readText(join(dir, file)), whole);
      t.equal(host.readText(join(dir, '..', file)), whole);
    }
    t.end();
  });
}

if (realLayout.kind === 'hybrid') {
  void t.test('the v2 hierarchy beside v1 keeps the controllers it was set up with', (t) => {
    const written: string[] = [];
    class Recording extends LinuxHost {
      override writeText(path: string, text: string): void {
        written.push(path);
        super.writeText(path, text);
      }
    }
    createCgroup(new Recording(), testCgroup(t));
    t.ok(written.length > 0);
    t.ok(
      written.every((path) => /cpuset\.(cpus|mems)$/.test(path)),
      written.join(),
    );
    t.end();
  });
}

void t.test('v2 enables the controllers it has and lacks yet, one by one, and bears a refusal', (t) => {
  const dir = tempDir(t);
  writeFileSync(join(dir, 'cgroup.controllers'), 'cpuset cpu io memory pids rdma\n');
  writeFileSync(join(dir, 'cgroup.subtree_control'), 'cpu\n');
  const writes: string[] = [];
  class Refusing extends LinuxHost {
    override writeText(path: string, text: string): void {
      writes.push(`${path.slice(dir.length)} ${text}`);
      if (text === '+io') throw Object.assign(new Error('busy'), { code: 'EBUSY', syscall: 'write' });
      if (text === '+pids' && refuse)
        throw Object.assign(new Error('bad'), { code: 'EIO', syscall: 'write' });
    }
  }
  let refuse = false;
  const cgroup = planCgroup(parseCgroupLayout('1 1 0:1 / / rw - cgroup2 cgroup2 rw', dir), '/pods/vm', 'x');
  createCgroup(new Refusing(), cgroup);
  t.strictSame(writes, [
    '/cgroup.subtree_control +cpuset',
    '/cgroup.subtree_control +io',
    '/cgroup.subtree_control +memory',
    '/cgroup.subtree_control +pids',
  ]);
  t.equal(host.inspect(join(dir, 'pods/vm'))?.kind, 'directory');
  refuse = true;
  t.throws(() => createCgroup(new Refusing(), cgroup), { code: 'EIO' });
  t.end();
});
