import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { CpuResources } from '../../../src/core/vm-spec.ts';
import { createCgroup } from '../../../src/host/cgroup.ts';
import { applyCpuResources, sharesToWeight } from '../../../src/host/cgroup-cpu.ts';
import { parseCgroupLayout } from '../../../src/host/cgroup-layout.ts';
import { controllerDir, planCgroup } from '../../../src/host/cgroup-plan.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { tempDir } from '../../support/temp-dir.ts';
import { testCgroup, versions } from './test-cgroup.ts';

const host = new LinuxHost();
const none: CpuResources = {
  cpuShares: undefined,
  cpuQuota: undefined,
  cpuPeriod: undefined,
  cpusetCpus: undefined,
  cpusetMems: undefined,
};

if (versions.includes(1)) {
  void t.test('the kernel takes every field in v1, and undefined leaves it', (t) => {
    const cgroup = testCgroup(t);
    createCgroup(host, cgroup);
    const read = (controller: string, file: string): string =>
      host.readText(join(controllerDir(cgroup, controller)!.dir, file)).trim();
    const bandwidth = (): string => `${read('cpu', 'cpu.cfs_quota_us')}/${read('cpu', 'cpu.cfs_period_us')}`;

    const all = { cpuShares: 512, cpuQuota: 50_000, cpuPeriod: 200_000, cpusetCpus: '0', cpusetMems: '0' };
    t.strictSame(applyCpuResources(host, cgroup, all), []);
    t.strictSame(applyCpuResources(host, cgroup, none), []);
    t.strictSame(applyCpuResources(host, cgroup, { ...none, cpuShares: 0 }), []);
    t.equal(read('cpu', 'cpu.shares'), '512');
    t.equal(bandwidth(), '50000/200000');
    t.equal(read('cpuset', 'cpuset.cpus'), '0');
    t.equal(read('cpuset', 'cpuset.mems'), '0');
    applyCpuResources(host, cgroup, { ...none, cpuPeriod: 100_000 });
    t.equal(bandwidth(), '50000/100000');
    applyCpuResources(host, cgroup, { ...none, cpuQuota: 0 });
    t.equal(bandwidth(), '-1/100000');
    t.throws(() => applyCpuResources(host, cgroup, { ...none, cpusetCpus: '4000' }), {
      kind: 'InvalidArgument',
      message: /refuses "4000" for .*cpuset\.cpus/,
    });
    t.end();
  });
}

if (versions.includes(1)) {
  void t.test('quota and period change together below a limited parent, in whatever order it takes', (t) => {
    const cgroup = testCgroup(t);
    createCgroup(host, cgroup);
    const { dir } = controllerDir(cgroup, 'cpu')!;
    host.writeText(join(dir, '..', 'cpu.cfs_quota_us'), '50000');
    applyCpuResources(host, cgroup, { ...none, cpuQuota: 100_000, cpuPeriod: 400_000 });
    applyCpuResources(host, cgroup, { ...none, cpuQuota: 10_000, cpuPeriod: 20_000 });
    t.equal(host.readText(join(dir, 'cpu.cfs_quota_us')).trim(), '10000');
    t.equal(host.readText(join(dir, 'cpu.cfs_period_us')).trim(), '20000');
    t.throws(() => applyCpuResources(host, cgroup, { ...none, cpuQuota: 30_000, cpuPeriod: 20_000 }), {
      name: 'VmError',
      kind: 'InvalidArgument',
    });
    t.end();
  });
}

void t.test('v2 has weight and max, and says what it has no controller for', (t) => {
  const dir = tempDir(t);
  const cgroup = planCgroup(parseCgroupLayout('1 1 0:1 / / rw - cgroup2 cgroup2 rw', dir), '/vm', 'x');
  mkdirSync(join(dir, 'vm'));
  const all = { cpuShares: 1024, cpuQuota: 50_000, cpuPeriod: 200_000, cpusetCpus: '0-3', cpusetMems: '0' };
  t.strictSame(applyCpuResources(host, cgroup, all), [
    'cpuset.cpus',
    'cpuset.mems',
    'cpu.shares',
    'cpu.quota',
  ]);

  for (const file of ['cpu.weight', 'cpuset.cpus', 'cpuset.mems']) writeFileSync(join(dir, 'vm', file), '');
  writeFileSync(join(dir, 'vm/cpu.max'), 'max 100000\n');
  const after = (given: Partial<CpuResources>, file: string): string => {
    t.strictSame(applyCpuResources(host, cgroup, { ...none, ...given }), []);
    return readFileSync(join(dir, 'vm', file), 'utf8').trim();
  };
  t.equal(after(all, 'cpu.weight'), '100');
  t.equal(after({}, 'cpu.max'), '50000 200000');
  t.equal(after({}, 'cpuset.cpus'), '0-3');
  t.equal(after({ cpuQuota: 70_000 }, 'cpu.max'), '70000 200000');
  t.equal(after({ cpuPeriod: 100_000 }, 'cpu.max'), '70000 100000');
  t.equal(after({ cpuQuota: -1 }, 'cpu.max'), 'max 100000');
  t.end();
});

void t.test('shares become weights: both ends, the defaults, and never backwards', (t) => {
  t.strictSame([0, 2, 1024, 262144, 1e9].map(sharesToWeight), [1, 1, 100, 10000, 10000]);
  for (let shares = 2; shares < 262144; shares += 97) {
    if (sharesToWeight(shares + 97) < sharesToWeight(shares)) t.fail(`weight falls after ${shares}`);
  }
  t.end();
});
