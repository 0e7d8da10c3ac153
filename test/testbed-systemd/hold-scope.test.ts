/** Scopes of systemd's, with a sleeping process where a VM would have its QEMU. */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { createCgroup, joinCgroup, removeCgroup } from '../../src/host/cgroup.ts';
import { killCgroup } from '../../src/host/cgroup-kill.ts';
import { detectCgroupLayout } from '../../src/host/cgroup-layout.ts';
import { limitMemory } from '../../src/host/cgroup-memory.ts';
import { type Cgroup, planCgroup } from '../../src/host/cgroup-plan.ts';
import { holdScope, scopeOf, wholeCgroup } from '../../src/host/cgroup-scope.ts';
import { readCgroupStats } from '../../src/host/cgroup-stats.ts';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { loadNative } from '../../src/host/native.ts';
import { PodSlices, podSlice, systemctl } from '../support/cri-slices.ts';
import { startSleeper } from '../unit/host/sleeper.ts';

const MIB = 2 ** 20;
const host = new LinuxHost();
const never = new AbortController().signal;
const layout = detectCgroupLayout(host);

void t.test('a cgroup in a delegated scope', async (t) => {
  t.match(layout, { kind: 'v2', systemd: true });
  const slices = new PodSlices();
  t.teardown(() => slices[Symbol.asyncDispose]());
  const slice = podSlice('1-a');
  slices.add('1-a');
  const cgroup = planCgroup(layout, `${slice}:cri-containerd:vm1`, 'x');
  const whole = wholeCgroup(cgroup);
  const scope = scopeOf(cgroup);
  if (scope === undefined) throw new Error(`${cgroup.path} is in no scope`);
  const make = async (): Promise<void> => {
    await holdScope(host, scope, {}, never);
    createCgroup(host, cgroup);
  };
  const procs = ({ dirs: [place] }: Cgroup): string =>
    readFileSync(`${place?.dir}/cgroup.procs`, 'utf8').trim();
  const end = async (): Promise<void> => {
    await killCgroup(host, loadNative(), whole, never);
    await removeCgroup(host, whole, never);
    while (slices.left().length > 0) await delay(20);
  };

  await make();
  t.equal(procs(whole), '', 'no process is in the scope’s own cgroup');
  t.ok(limitMemory(host, cgroup, 64 * MIB));
  const sleeper = startSleeper(t);
  joinCgroup(host, cgroup, sleeper.pid);
  const limit = (): number | undefined => readCgroupStats(host, cgroup).memory?.limit;
  const properties = '--property=ActiveState,ControlGroup,Delegate,Slice';
  t.same(systemctl('show', scope.unit, properties).trim().split('\n').sort(), [
    'ActiveState=active',
    `ControlGroup=${whole.path}`,
    'Delegate=yes',
    `Slice=${slice}`,
  ]);
  for (const args of [
    ['daemon-reload'],
    ['set-property', '--runtime', slice, 'CPUWeight=50', 'MemoryMax=1G'],
    ['set-property', '--runtime', scope.unit, 'CPUWeight=70'],
    ['daemon-reexec'],
    ['daemon-reload'],
  ]) {
    systemctl(...args);
    t.equal(limit(), 64 * MIB, args.join(' '));
    t.ok(readCgroupStats(host, cgroup).cpu);
    t.equal(procs(cgroup), String(sleeper.pid));
  }

  await killCgroup(host, loadNative(), cgroup, never);
  systemctl('daemon-reload');
  await make();
  t.equal(limit(), 64 * MIB, 'it stays without the process that was limited');
  await end();
  await end();

  await make();
  t.not(limit(), 64 * MIB, 'the same name can be had again');
  await end();

  await t.test('a cgroup that systemd knows nothing of loses its limit', (t) => {
    slices.add('2');
    const plain = planCgroup(layout, `/kubepods.slice/${podSlice('2')}/own`, 'x');
    createCgroup(host, plain);
    limitMemory(host, plain, 64 * MIB);
    t.equal(readCgroupStats(host, plain).memory?.limit, 64 * MIB);
    systemctl('daemon-reload');
    t.equal(readCgroupStats(host, plain).memory?.limit, undefined, 'which is why there are scopes');
    return removeCgroup(host, plain, never);
  });

  await t.test('what systemd refuses is told in its words', async (t) => {
    const wrong = scopeOf(planCgroup(layout, 'system.slice:a b:c', 'x'));
    if (wrong === undefined) throw new Error('no scope');
    await t.rejects(holdScope(host, { ...wrong, slice: 'no-slice.service' }, {}, never), {
      kind: 'FailedPrecondition',
      message: /^systemd does not make .* in no-slice\.service/,
    });
  });
});
