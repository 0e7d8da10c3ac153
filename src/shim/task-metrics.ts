import type { Cgroup } from '../host/cgroup-plan.ts';
import type { Host } from '../host/host.ts';
import type { TaskMetrics } from './task.ts';

/** A cgroup's metrics. Their codec is a fifth of the shim's code, so it is loaded by the first who asks. */
export async function taskMetrics(host: Host, cgroup: Cgroup): Promise<TaskMetrics> {
  const { cgroupMetrics } = await import('./cgroup-metrics.ts');
  return cgroupMetrics(host, cgroup);
}
