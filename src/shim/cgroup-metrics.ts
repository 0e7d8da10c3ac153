import { io } from '#wire-metrics';
import type { CgroupStats } from '../host/cgroup-stats.ts';
import type { NicCounters } from '../net/nic-counters.ts';
import { nicTraffic, type NicTraffic } from './nic-traffic.ts';
import type { TaskMetrics } from './task.ts';

/** What kubelet and `ctr task metrics` show for "no limit" in cgroup v1. */
const UNLIMITED = 2 ** 63;

/**
 * A cgroup's figures as the message that containerd's CRI understands for this host's cgroup version; any other type would drop the
 * container from `crictl stats`. Source: containerd/cgroups cgroup1/stats, cgroup2/stats.
 */
export function cgroupMetrics(stats: CgroupStats, version: 1 | 2, nics: readonly NicCounters[]): TaskMetrics {
  const network = nics.map(nicTraffic);
  return version === 2 ? metricsV2(stats, network) : metricsV1(stats, network);
}

function metricsV1({ cpu, memory, pids }: CgroupStats, network: NicTraffic[]): TaskMetrics {
  const { Metrics } = io.containerd.cgroups.v1;
  const value = Metrics.encode({
    pids: pids === undefined ? null : { current: pids.current, limit: pids.limit ?? 0 },
    cpu: cpu === undefined ? null : { usage: { total: cpu.usage, user: cpu.user, kernel: cpu.system } },
    memory:
      memory === undefined
        ? null
        : {
            usage: {
              usage: memory.usage,
              limit: memory.limit ?? UNLIMITED,
              max: memory.maxUsage ?? 0,
              failcnt: memory.limitHits,
            },
            rss: memory.rss,
            totalRss: memory.rss,
            inactiveFile: memory.inactiveFile,
            totalInactiveFile: memory.inactiveFile,
            pgFault: memory.pageFaults,
            totalPgFault: memory.pageFaults,
            pgMajFault: memory.majorPageFaults,
            totalPgMajFault: memory.majorPageFaults,
          },
    network,
    memoryOomControl: memory === undefined ? null : { oomKill: memory.oomKills },
  }).finish();
  return { typeUrl: 'io.containerd.cgroups.v1.Metrics', value };
}

function metricsV2({ cpu, memory, pids }: CgroupStats, network: NicTraffic[]): TaskMetrics {
  const { Metrics } = io.containerd.cgroups.v2;
  const microseconds = (ns: number): number => Math.round(ns / 1000);
  const value = Metrics.encode({
    pids: pids === undefined ? null : { current: pids.current, limit: pids.limit ?? 0 },
    cpu:
      cpu === undefined
        ? null
        : {
            usageUsec: microseconds(cpu.usage),
            userUsec: microseconds(cpu.user),
            systemUsec: microseconds(cpu.system),
          },
    memory:
      memory === undefined
        ? null
        : {
            usage: memory.usage,
            usageLimit: memory.limit ?? UNLIMITED,
            anon: memory.rss,
            inactiveFile: memory.inactiveFile,
            pgfault: memory.pageFaults,
            pgmajfault: memory.majorPageFaults,
          },
    network,
    memoryEvents: memory === undefined ? null : { max: memory.limitHits, oomKill: memory.oomKills },
  }).finish();
  return { typeUrl: 'io.containerd.cgroups.v2.Metrics', value };
}
