import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { VmError } from '../core/errors.ts';
import { absentIs } from './absent-is.ts';
import { cgroupPids, pidsBelow } from './cgroup.ts';
import { type Cgroup, type CgroupDir, controllerDir } from './cgroup-plan.ts';
import type { Host } from './host.ts';
import { errnoName, toVmError } from './linux-errno.ts';
import type { Native } from './native.ts';
import { ownFd } from './owned-fd.ts';

const SIGKILL = 9;

/**
 * Kills every process in the cgroup and below it and returns when none is left; an absent cgroup has none. It goes on
 * until `signal` is aborted, and then throws with the pids that are left (a process in uninterruptible sleep cannot be
 * killed by anyone). Throws FailedPrecondition when we are in that cgroup ourselves.
 *
 * v2 does it at once, forks included (`cgroup.kill`, Linux 5.14); elsewhere every process is signaled until no new one
 * appears. v1 cannot tell when a cgroup is empty, so the list is read again after ever longer pauses.
 */
export async function killCgroup(
  host: Host,
  native: Native,
  cgroup: Cgroup,
  signal: AbortSignal,
): Promise<void> {
  for (let pause = 1; ; pause = Math.min(2 * pause, 64)) {
    const left = cgroupPids(host, cgroup);
    if (left.length === 0) return;
    if (left.includes(process.pid)) {
      throw new VmError(
        'FailedPrecondition',
        `cannot kill the cgroup ${cgroup.path}: this process (${process.pid}) is in it; it must be moved out first`,
      );
    }
    for (const place of cgroup.dirs) killIn(host, native, place);
    thaw(host, cgroup);
    await delay(pause, undefined, { signal }).catch((error: unknown) => {
      const what = `cannot kill the cgroup ${cgroup.path}, process ${left.join(', ')} is left in it`;
      throw VmError.from(signal.aborted ? signal.reason : error, what);
    });
  }
}

function killIn(host: Host, native: Native, { hierarchy, dir }: CgroupDir): void {
  const file = join(dir, 'cgroup.kill');
  if (hierarchy.version === 2 && host.inspect(file) !== undefined) {
    absentIs(undefined, () => host.writeText(file, '1'));
    return;
  }
  using pidfds = new DisposableStack();
  const opened = pidsBelow(host, dir).flatMap((pid) => {
    const pidfd = openPidfd(native, pid);
    return pidfd === undefined
      ? []
      : [{ pid, pidfd: pidfds.adopt(ownFd(pidfd), (fd) => fd[Symbol.dispose]()).fd }];
  });
  // Whoever is still listed now is the process the descriptor was opened on, and not one that got its pid since.
  const members = new Set(pidsBelow(host, dir));
  for (const { pid, pidfd } of opened) {
    if (members.has(pid)) sendKill(native, pid, pidfd);
  }
}

function openPidfd(native: Native, pid: number): number | undefined {
  try {
    return native.pidfdOpen(pid);
  } catch (error) {
    if (errnoName(error) === 'ESRCH') return undefined;
    throw toVmError(error, `open process ${pid}`);
  }
}

function sendKill(native: Native, pid: number, pidfd: number): void {
  try {
    native.pidfdSendSignal(pidfd, SIGKILL);
  } catch (error) {
    if (errnoName(error) !== 'ESRCH') throw toVmError(error, `kill process ${pid}`);
  }
}

/** In v1 a frozen process does not even die. */
function thaw(host: Host, cgroup: Cgroup): void {
  const dir = controllerDir(cgroup, 'freezer')?.dir;
  const file = dir === undefined ? undefined : join(dir, 'freezer.state');
  if (file !== undefined && host.inspect(file) !== undefined) {
    absentIs(undefined, () => host.writeText(file, 'THAWED'));
  }
}
