import { join } from 'node:path';
import { VmError } from '../core/errors.ts';
import type { CpuResources } from '../core/vm-spec.ts';
import { type Cgroup, type CgroupDir, controllerDir } from './cgroup-plan.ts';
import type { Host } from './host.ts';
import { errnoName } from './linux-errno.ts';

/**
 * Writes the CPU part of OCI's `linux.resources` to an existing cgroup; what is undefined stays as it is, a quota of
 * 0 or less lifts the limit. Throws InvalidArgument when the kernel refuses a value, such as a CPU this host or the
 * parent cgroup does not have.
 *
 * @returns the fields that were given but cannot be set, because the host has no such controller
 */
export function applyCpuResources(host: Host, cgroup: Cgroup, resources: CpuResources): readonly string[] {
  const skipped: string[] = [];
  const within = (
    field: string,
    controller: string,
    value: unknown,
    apply: (place: CgroupDir) => boolean,
  ): void => {
    if (value === undefined) return;
    const place = controllerDir(cgroup, controller);
    if (place === undefined || !apply(place)) skipped.push(field);
  };
  const { cpuShares, cpuQuota, cpuPeriod, cpusetCpus, cpusetMems } = resources;

  within('cpuset.cpus', 'cpuset', cpusetCpus, ({ dir }) => write(host, dir, 'cpuset.cpus', cpusetCpus ?? ''));
  within('cpuset.mems', 'cpuset', cpusetMems, ({ dir }) => write(host, dir, 'cpuset.mems', cpusetMems ?? ''));
  within('cpu.shares', 'cpu', cpuShares === 0 ? undefined : cpuShares, ({ hierarchy, dir }) =>
    hierarchy.version === 1
      ? write(host, dir, 'cpu.shares', String(cpuShares))
      : write(host, dir, 'cpu.weight', String(sharesToWeight(cpuShares ?? 0))),
  );
  within('cpu.quota', 'cpu', cpuQuota ?? cpuPeriod, ({ hierarchy, dir }) =>
    hierarchy.version === 1
      ? writeBandwidthV1(host, dir, cpuQuota, cpuPeriod)
      : writeBandwidthV2(host, dir, cpuQuota, cpuPeriod),
  );
  return skipped;
}

/**
 * cpu.shares (2 to 262144, default 1024) as cpu.weight (1 to 10000, default 100): the curve that runc 1.3 and crun 1.23
 * use, through both ends and the defaults, so that a VM of one CPU weighs as much as a process without a limit.
 */
export function sharesToWeight(shares: number): number {
  if (shares <= 2) return 1;
  if (shares >= 262144) return 10000;
  const l = Math.log2(shares);
  return Math.ceil(10 ** ((l * l + 125 * l) / 612 - 7 / 34));
}

function writeBandwidthV1(
  host: Host,
  dir: string,
  quota: number | undefined,
  period: number | undefined,
): boolean {
  const writePeriod = (): boolean =>
    period === undefined || write(host, dir, 'cpu.cfs_period_us', String(period));
  const writeQuota = (): boolean =>
    quota === undefined || write(host, dir, 'cpu.cfs_quota_us', String(quota <= 0 ? -1 : quota));
  if (period === undefined || quota === undefined) return writePeriod() && writeQuota();
  // The two are checked against the parent one by one, so one of the two orders may pass an impossible pair.
  try {
    if (!writePeriod()) return false;
  } catch (error) {
    if (errnoName(error) !== 'EINVAL') throw error;
    return writeQuota() && writePeriod();
  }
  return writeQuota();
}

function writeBandwidthV2(
  host: Host,
  dir: string,
  quota: number | undefined,
  period: number | undefined,
): boolean {
  const file = join(dir, 'cpu.max');
  if (host.inspect(file) === undefined) return false;
  const [oldQuota = 'max', oldPeriod = '100000'] = host.readText(file).trim().split(' ');
  const newQuota = quota === undefined ? oldQuota : quota <= 0 ? 'max' : String(quota);
  return write(host, dir, 'cpu.max', `${newQuota} ${period ?? oldPeriod}`);
}

/** False when there is no such file, because the controller is not there. */
function write(host: Host, dir: string, file: string, value: string): boolean {
  const path = join(dir, file);
  if (host.inspect(path) === undefined) return false;
  try {
    host.writeText(path, value);
  } catch (error) {
    const name = errnoName(error);
    // EACCES is cpuset's word for CPUs that the parent does not have.
    if (name === undefined || !['EINVAL', 'ERANGE', 'EACCES', 'ENOSPC'].includes(name)) throw error;
    throw new VmError(
      'InvalidArgument',
      `the kernel refuses "${value}" for ${path} (${name}); give a value within the parent cgroup's and this host's limits`,
      { cause: error },
    );
  }
  return true;
}
