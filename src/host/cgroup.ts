import { dirname, join, relative } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { VmError } from '../core/errors.ts';
import { absentIs } from './absent-is.ts';
import { type Cgroup, type CgroupDir, scopePath } from './cgroup-plan.ts';
import type { Host } from './host.ts';
import { errnoName } from './linux-errno.ts';
import { readIdentity } from './process-identity.ts';

/** What a VM is given or accounted with; others, such as rdma, are left as the parent has them. */
const enabledControllers = ['cpu', 'cpuset', 'memory', 'pids', 'io', 'hugetlb'];

/**
 * Makes the cgroup's directories in every hierarchy, with what a new cgroup needs before a process can join: in v1 a
 * cpuset with the parent's CPUs and memory nodes, in v2 the controllers enabled from the root down. Controllers that
 * this host does not have, or that v2 cannot enable there, stay away. What exists already is kept. In a scope of systemd's,
 * which must be there (`holdScope`), only what is below the scope is ours to change.
 */
export function createCgroup(host: Host, cgroup: Cgroup): void {
  const onlyV2 = cgroup.dirs.every(({ hierarchy }) => hierarchy.version === 2);
  const scoped = scopePath(cgroup.path) !== undefined;
  for (const place of cgroup.dirs) {
    host.makeDir(place.dir, 0o755);
    for (const level of scoped ? [place.dir] : levels(place)) {
      if (place.hierarchy.controllers.includes('cpuset')) inheritCpuset(host, level);
      if (onlyV2) enableControllers(host, dirname(level));
    }
  }
}

/** Moves a process with all its threads into the cgroup, in every hierarchy. */
export function joinCgroup(host: Host, cgroup: Cgroup, pid: number): void {
  for (const { dir } of cgroup.dirs) host.writeText(join(dir, 'cgroup.procs'), String(pid));
}

/** The processes in the cgroup and below it, in any hierarchy, ascending; empty when it does not exist. */
export function cgroupPids(host: Host, cgroup: Cgroup): number[] {
  const pids = new Set<number>();
  for (const { dir } of cgroup.dirs) {
    for (const pid of pidsBelow(host, dir)) pids.add(pid);
  }
  return [...pids].sort((a, b) => a - b);
}

/**
 * Removes the cgroup and what is below it from every hierarchy; absent is fine. The kernel answers EBUSY as long as an
 * ended process is still being torn down: that is waited for until `signal` is aborted. A process that is alive fails
 * the call with FailedPrecondition: kill it first.
 */
export async function removeCgroup(host: Host, cgroup: Cgroup, signal: AbortSignal): Promise<void> {
  for (const { dir } of cgroup.dirs) {
    for (let pause = 1; !tryRemove(host, dir); pause = Math.min(2 * pause, 64)) {
      await delay(pause, undefined, { signal }).catch((error: unknown) => {
        throw VmError.from(
          signal.aborted ? signal.reason : error,
          `cannot remove the cgroup ${dir}, it is busy`,
        );
      });
    }
  }
}

/** The cgroup directories in `dir`, deepest first, with `dir` as the last; empty when it does not exist. */
export function cgroupTree(host: Host, dir: string): string[] {
  const children = absentIs([], () => host.listDir(dir))
    .map((name) => join(dir, name))
    .filter((path) => host.inspect(path)?.kind === 'directory');
  const below = children.flatMap((child) => cgroupTree(host, child));
  return host.inspect(dir) === undefined ? below : [...below, dir];
}

/** The processes in one directory of a hierarchy and below it. */
export function pidsBelow(host: Host, dir: string): number[] {
  return cgroupTree(host, dir).flatMap((path) => {
    const lines = absentIs('', () => host.readText(join(path, 'cgroup.procs'))).split('\n');
    // 0 stands for a process outside of our pid namespace.
    return lines.map(Number).filter((pid) => pid > 0);
  });
}

/** From the first directory below the mount point down to the cgroup itself. */
function levels({ hierarchy, dir }: CgroupDir): string[] {
  const parts = relative(hierarchy.mountPoint, dir).split('/');
  return parts.map((_, i) => join(hierarchy.mountPoint, ...parts.slice(0, i + 1)));
}

/** cpuset(7): no task can join a cpuset without CPUs and memory nodes, and a new one has neither. */
function inheritCpuset(host: Host, dir: string): void {
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    if (absentIs('', () => host.readText(join(dir, file))).trim() !== '') continue;
    host.writeText(join(dir, file), host.readText(join(dirname(dir), file)).trim());
  }
}

/** cgroup-v2.rst "Controlling Controllers": a child has a controller only when its parent passes it on. */
function enableControllers(host: Host, dir: string): void {
  const words = (file: string): string[] =>
    absentIs('', () => host.readText(join(dir, file)))
      .trim()
      .split(/\s+/);
  const enabled = words('cgroup.subtree_control');
  const missing = words('cgroup.controllers').filter(
    (name) => enabledControllers.includes(name) && !enabled.includes(name),
  );
  for (const name of missing) {
    try {
      host.writeText(join(dir, 'cgroup.subtree_control'), `+${name}`);
    } catch (error) {
      // EBUSY: the parent has processes of its own; EOPNOTSUPP: it is threaded; ENOENT: gone since; EINVAL: in v1.
      if (!['EBUSY', 'EOPNOTSUPP', 'ENOENT', 'EINVAL'].includes(errnoName(error) ?? '')) throw error;
    }
  }
}

/** False while nothing but processes that are ending keeps the directory. */
function tryRemove(host: Host, dir: string): boolean {
  try {
    for (const path of cgroupTree(host, dir)) host.remove(path);
    return true;
  } catch (error) {
    if (errnoName(error) !== 'EBUSY') throw error;
    const alive = pidsBelow(host, dir).filter((pid) => !'ZX'.includes(readIdentity(host, pid)?.state ?? 'X'));
    if (alive.length === 0) return false;
    throw new VmError(
      'FailedPrecondition',
      `cannot remove the cgroup ${dir}: process ${alive.join(', ')} is in it; kill it first`,
      { cause: error },
    );
  }
}
