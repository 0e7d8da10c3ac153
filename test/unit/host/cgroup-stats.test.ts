import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { createCgroup } from '../../../src/host/cgroup.ts';
import { parseCgroupLayout } from '../../../src/host/cgroup-layout.ts';
import { type Cgroup, controllerDir, planCgroup } from '../../../src/host/cgroup-plan.ts';
import { readCgroupStats } from '../../../src/host/cgroup-stats.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { tempDir } from '../../support/temp-dir.ts';
import { testCgroup, versions } from './test-cgroup.ts';

const host = new LinuxHost();

/** Runs a shell script in the cgroup to its end. */
function runIn(cgroup: Cgroup, script: string): void {
  const join = cgroup.dirs.map(({ dir }) => `echo $$ > ${dir}/cgroup.procs`).join('; ');
  spawnSync('/bin/sh', ['-c', `${join}; ${script}`], { stdio: 'ignore' });
}

const write = (cgroup: Cgroup, controller: string, file: string, text: string): void =>
  host.writeText(join(controllerDir(cgroup, controller)!.dir, file), text);

if (versions.includes(1)) {
  void t.test('what the kernel counts in v1', (t) => {
    const cgroup = testCgroup(t);
    createCgroup(host, cgroup);
    runIn(cgroup, 'head -c 30000000 /dev/zero | tail -c 20000000 | wc -c');
    const { cpu, memory, pids } = readCgroupStats(host, cgroup);
    t.ok(cpu!.usage > 1e6 && cpu!.usage < 60e9, 'nanoseconds');
    t.ok(cpu!.user % 1e7 === 0 && cpu!.system % 1e7 === 0);
    t.ok(memory!.maxUsage! > 10e6 && memory!.maxUsage! < 1e9, `bytes: ${memory!.maxUsage}`);
    t.ok(memory!.pageFaults > 1000);
    t.match(memory, { limit: undefined, limitHits: 0, oomKills: 0 });
    t.strictSame(pids, { current: 0, limit: undefined });
    t.end();
  });
}

if (versions.includes(1)) {
  void t.test('limits, and an end by want of memory', (t) => {
    const cgroup = testCgroup(t);
    createCgroup(host, cgroup);
    write(cgroup, 'memory', 'memory.limit_in_bytes', String(16 << 20));
    write(cgroup, 'pids', 'pids.max', '70');
    runIn(cgroup, 'head -c 100000000 /dev/zero | tail -c 90000000');
    const { memory, pids } = readCgroupStats(host, cgroup);
    t.equal(memory!.limit, 16 << 20);
    t.ok(memory!.limitHits > 0);
    t.ok(memory!.oomKills > 0);
    t.strictSame(pids, { current: 0, limit: 70 });
    t.end();
  });
}

void t.test('v2, from files as the kernel writes them', (t) => {
  const dir = tempDir(t);
  const cgroup = planCgroup(parseCgroupLayout('1 1 0:1 / / rw - cgroup2 cgroup2 rw', dir), '/vm', 'x');
  t.strictSame(readCgroupStats(host, cgroup), { cpu: undefined, memory: undefined, pids: undefined });

  mkdirSync(join(dir, 'vm'));
  const file = (name: string, text: string): void => writeFileSync(join(dir, 'vm', name), text);
  file('cpu.stat', 'usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 0\n');
  t.match(readCgroupStats(host, cgroup), {
    cpu: { usage: 1_500_000, user: 1_000_000, system: 500_000 },
    memory: undefined,
  });

  file('memory.current', '1048576\n');
  file('memory.max', 'max\n');
  file('memory.stat', 'anon 4096\nfile 8192\ninactive_file 512\nshmem 2048\npgfault 7\npgmajfault 2\n');
  file('memory.events', 'low 0\nhigh 0\nmax 5\noom 1\noom_kill 3\n');
  file('pids.current', '4\n');
  file('pids.max', '100\n');
  t.strictSame(readCgroupStats(host, cgroup).memory, {
    usage: 1048576,
    limit: undefined,
    inactiveFile: 512,
    shmem: 2048,
    rss: 4096,
    maxUsage: undefined,
    pageFaults: 7,
    majorPageFaults: 2,
    limitHits: 5,
    oomKills: 3,
  });
  t.strictSame(readCgroupStats(host, cgroup).pids, { current: 4, limit: 100 });
  file('memory.max', '2097152\n');
  file('memory.peak', '1500000\n');
  t.match(readCgroupStats(host, cgroup).memory, { limit: 2097152, maxUsage: 1500000 });

  file('memory.current', 'rubbish');
  t.throws(() => readCgroupStats(host, cgroup), {
    kind: 'Internal',
    message: /memory\.current has "rubbish"/,
  });
  t.end();
});
