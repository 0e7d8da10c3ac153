import type { Cgroup } from '../host/cgroup-plan.ts';
import { readCgroupStats } from '../host/cgroup-stats.ts';
import type { Host } from '../host/host.ts';
import type { NicCounters } from '../net/nic-counters.ts';
import type { TaskMetrics } from './task.ts';

/**
 * A cgroup's metrics, and those of a VM's cards beside them. Their codec is a fifth of the shim's code, so it is loaded by the first who asks; it gets figures
 * and nothing else, because a bundle of its own has its own copy of every class, `VmError` among them.
 */
export async function taskMetrics(
  host: Host,
  cgroup: Cgroup,
  nics: readonly NicCounters[] = [],
): Promise<TaskMetrics> {
  const stats = readCgroupStats(host, cgroup);
  const version = cgroup.dirs.every(({ hierarchy }) => hierarchy.version === 2) ? 2 : 1;
  const { cgroupMetrics } = await import('./cgroup-metrics.ts');
  return cgroupMetrics(stats, version, nics);
}
