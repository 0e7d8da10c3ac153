import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { io } from '#wire-metrics';
import type { Cgroup } from '../../../src/host/cgroup-plan.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import type { TrafficCounters } from '../../../src/net/nic-counters.ts';
import { taskMetrics } from '../../../src/shim/task-metrics.ts';
import { tempDir } from '../../support/temp-dir.ts';

const MIB = 1 << 20;
const host = new LinuxHost();

/** A cgroup of files that the test writes. */
function cgroup(dir: string, version: 1 | 2, files: Readonly<Record<string, string>>): Cgroup {
  mkdirSync(dir, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), `${text}\n`);
  const controllers = version === 1 ? ['cpu', 'cpuacct', 'memory', 'pids'] : [];
  return { path: '/c', dirs: [{ hierarchy: { version, mountPoint: dir, controllers }, dir }] };
}

void t.test('cgroup v2', async (t) => {
  const files = {
    'cpu.stat': 'usage_usec 3000\nuser_usec 2000\nsystem_usec 1000',
    'memory.current': String(100 * MIB),
    'memory.max': 'max',
    'memory.stat': `anon ${80 * MIB}\ninactive_file ${MIB}\npgfault 7\npgmajfault 2`,
    'memory.events': 'max 3\noom_kill 1',
    'pids.current': '5',
    'pids.max': '100',
  };
  const { typeUrl, value } = await taskMetrics(host, cgroup(join(tempDir(t), 'c'), 2, files));
  t.equal(typeUrl, 'io.containerd.cgroups.v2.Metrics');
  t.match(io.containerd.cgroups.v2.Metrics.decode(value), {
    pids: { current: 5, limit: 100 },
    cpu: { usageUsec: 3000, userUsec: 2000, systemUsec: 1000 },
    memory: {
      usage: 100 * MIB,
      usageLimit: 2 ** 63,
      anon: 80 * MIB,
      inactiveFile: MIB,
      shmem: 0,
      pgfault: 7,
      pgmajfault: 2,
    },
    memoryEvents: { max: 3, oomKill: 1 },
  });
});

void t.test('cgroup v1, also as a hybrid beside an empty v2', async (t) => {
  const directory = tempDir(t);
  const files = {
    'cpuacct.usage': '3000000',
    'cpuacct.stat': 'user 200\nsystem 100',
    'memory.usage_in_bytes': String(100 * MIB),
    'memory.limit_in_bytes': String(256 * MIB),
    'memory.max_usage_in_bytes': String(120 * MIB),
    'memory.failcnt': '4',
    'memory.stat': `total_rss ${80 * MIB}\ntotal_inactive_file ${MIB}\ntotal_pgfault 7\ntotal_pgmajfault 2`,
    'memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 1',
    'pids.current': '5',
    'pids.max': 'max',
  };
  const v1 = cgroup(join(directory, 'v1'), 1, files);
  const hybrid = { ...v1, dirs: [...v1.dirs, ...cgroup(join(directory, 'v2'), 2, {}).dirs] };
  for (const place of [v1, hybrid]) {
    const { typeUrl, value } = await taskMetrics(host, place);
    t.equal(typeUrl, 'io.containerd.cgroups.v1.Metrics');
    t.match(io.containerd.cgroups.v1.Metrics.decode(value), {
      pids: { current: 5, limit: 0 },
      cpu: { usage: { total: 3_000_000, user: 2e9, kernel: 1e9 } },
      memory: {
        usage: { usage: 100 * MIB, limit: 256 * MIB, max: 120 * MIB, failcnt: 4 },
        totalRss: 80 * MIB,
        totalInactiveFile: MIB,
        totalPgFault: 7,
        totalPgMajFault: 2,
      },
      memoryOomControl: { oomKill: 1 },
    });
  }
});

void t.test('the traffic of a VM’s cards goes with it', async (t) => {
  const traffic = (n: number): TrafficCounters => ({
    bytes: n,
    packets: n + 1,
    errors: n + 2,
    dropped: n + 3,
  });
  const nics = [{ ifName: 'eth0', received: traffic(10), sent: traffic(20) }];
  const seen = [
    {
      ...{ name: 'eth0', rxBytes: 10, rxPackets: 11, rxErrors: 12, rxDropped: 13 },
      ...{ txBytes: 20, txPackets: 21, txErrors: 22, txDropped: 23 },
    },
  ];
  const { v1, v2 } = io.containerd.cgroups;
  for (const [version, codec] of [
    [1, v1.Metrics],
    [2, v2.Metrics],
  ] as const) {
    const { value } = await taskMetrics(host, cgroup(join(tempDir(t), 'c'), version, {}), nics);
    t.match(codec.decode(value).network, seen);
  }
});

void t.test('a cgroup that has gone is a message without figures', async (t) => {
  for (const version of [1, 2] as const) {
    const { value } = await taskMetrics(host, cgroup(join(tempDir(t), 'c'), version, {}));
    t.equal(value.length, 0);
  }
});
