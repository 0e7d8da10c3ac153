import { join } from 'node:path';
import { VmError } from '../core/errors.ts';
import { absentIs } from './absent-is.ts';
import { type Cgroup, controllerDir } from './cgroup-plan.ts';
import type { Host } from './host.ts';

/** What a cgroup has used; a part is undefined when its controller is missing or the cgroup is gone. */
export interface CgroupStats {
  readonly cpu: CpuStats | undefined;
  readonly memory: MemoryStats | undefined;
  readonly pids: PidsStats | undefined;
}

/** CPU time in nanoseconds. */
export interface CpuStats {
  readonly usage: number;
  readonly user: number;
  readonly system: number;
}

/** Bytes, except for the counters. */
export interface MemoryStats {
  readonly usage: number;
  /** undefined: not limited. */
  readonly limit: number | undefined;
  /** Page cache that the kernel can take back; the working set is `usage` without it. */
  readonly inactiveFile: number;
  /** Anonymous memory. */
  readonly rss: number;
  /** Shared memory, which for a VM is its guest's RAM. */
  readonly shmem: number;
  /** Highest usage so far; undefined before Linux 5.19 in v2. */
  readonly maxUsage: number | undefined;
  readonly pageFaults: number;
  readonly majorPageFaults: number;
  /** How often usage ran into the limit. */
  readonly limitHits: number;
  /** How many processes the kernel killed for want of memory. */
  readonly oomKills: number;
}

export interface PidsStats {
  readonly current: number;
  /** undefined: not limited. */
  readonly limit: number | undefined;
}

/** Reads cgroup-v1/{cpuacct,memory,pids}.rst or cgroup-v2.rst files, whichever hierarchy has the controller. */
export function readCgroupStats(host: Host, cgroup: Cgroup): CgroupStats {
  const cpu = controllerDir(cgroup, 'cpuacct');
  const memory = controllerDir(cgroup, 'memory');
  const pids = controllerDir(cgroup, 'pids');
  return {
    cpu: cpu && (cpu.hierarchy.version === 1 ? readCpuV1 : readCpuV2)(host, cpu.dir),
    memory: memory && (memory.hierarchy.version === 1 ? readMemoryV1 : readMemoryV2)(host, memory.dir),
    pids: pids && readPids(host, pids.dir),
  };
}

function readCpuV1(host: Host, dir: string): CpuStats | undefined {
  const usage = readNumber(host, join(dir, 'cpuacct.usage'));
  if (usage === undefined) return undefined;
  // cpuacct.stat counts in USER_HZ, which is 100 on every architecture this runs on.
  const ticks = readKeyed(host, join(dir, 'cpuacct.stat'));
  return { usage, user: count(ticks, 'user') * 1e7, system: count(ticks, 'system') * 1e7 };
}

function readCpuV2(host: Host, dir: string): CpuStats | undefined {
  const stat = readKeyed(host, join(dir, 'cpu.stat'));
  if (stat.size === 0) return undefined;
  const nanoseconds = (key: string): number => count(stat, key) * 1000;
  return {
    usage: nanoseconds('usage_usec'),
    user: nanoseconds('user_usec'),
    system: nanoseconds('system_usec'),
  };
}

function readMemoryV1(host: Host, dir: string): MemoryStats | undefined {
  const usage = readNumber(host, join(dir, 'memory.usage_in_bytes'));
  if (usage === undefined) return undefined;
  const stat = readKeyed(host, join(dir, 'memory.stat'));
  const limit = readNumber(host, join(dir, 'memory.limit_in_bytes'));
  return {
    usage,
    // "Not limited" is the largest multiple of the page size below 2^63.
    limit: limit !== undefined && limit < 2 ** 62 ? limit : undefined,
    inactiveFile: count(stat, 'total_inactive_file'),
    rss: count(stat, 'total_rss'),
    shmem: count(stat, 'total_shmem'),
    maxUsage: readNumber(host, join(dir, 'memory.max_usage_in_bytes')),
    pageFaults: count(stat, 'total_pgfault'),
    majorPageFaults: count(stat, 'total_pgmajfault'),
    limitHits: readNumber(host, join(dir, 'memory.failcnt')) ?? 0,
    oomKills: count(readKeyed(host, join(dir, 'memory.oom_control')), 'oom_kill'),
  };
}

function readMemoryV2(host: Host, dir: string): MemoryStats | undefined {
  const usage = readNumber(host, join(dir, 'memory.current'));
  if (usage === undefined) return undefined;
  const stat = readKeyed(host, join(dir, 'memory.stat'));
  const events = readKeyed(host, join(dir, 'memory.events'));
  return {
    usage,
    limit: readNumber(host, join(dir, 'memory.max')),
    inactiveFile: count(stat, 'inactive_file'),
    rss: count(stat, 'anon'),
    shmem: count(stat, 'shmem'),
    maxUsage: readNumber(host, join(dir, 'memory.peak')),
    pageFaults: count(stat, 'pgfault'),
    majorPageFaults: count(stat, 'pgmajfault'),
    limitHits: count(events, 'max'),
    oomKills: count(events, 'oom_kill'),
  };
}

function readPids(host: Host, dir: string): PidsStats | undefined {
  const current = readNumber(host, join(dir, 'pids.current'));
  return current === undefined ? undefined : { current, limit: readNumber(host, join(dir, 'pids.max')) };
}

/** undefined for a file that is absent or says `max`. */
function readNumber(host: Host, path: string): number | undefined {
  const text = absentIs('', () => host.readText(path)).trim();
  return text === '' || text === 'max' ? undefined : toNumber(path, text);
}

/** A flat keyed file, `KEY NUMBER` per line; empty when it is absent. */
function readKeyed(host: Host, path: string): ReadonlyMap<string, number> {
  const values = new Map<string, number>();
  for (const line of absentIs('', () => host.readText(path)).split('\n')) {
    const [key, value] = line.split(' ');
    if (key !== undefined && value !== undefined) values.set(key, toNumber(path, value));
  }
  return values;
}

function toNumber(path: string, text: string): number {
  const number = Number(text);
  if (Number.isFinite(number)) return number;
  throw new VmError('Internal', `${path} has "${text}" where a number belongs`);
}

function count(values: ReadonlyMap<string, number>, key: string): number {
  return values.get(key) ?? 0;
}
