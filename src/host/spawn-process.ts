import type { ChildProcess } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { constants, existsSync, openSync, readdirSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { isAbsolute } from 'node:path';
import { VmError } from '../core/errors.ts';
import type { ProcessExit, ProcessNetwork, SpawnedProcess, SpawnPlan } from './host.ts';
import { errnoName, toVmError, withErrno } from './linux-errno.ts';
import type { Native } from './native.ts';
import { inEmptyNetwork, inNetworkNamespace } from './network-namespace.ts';
import { ownFd } from './owned-fd.ts';

/**
 * Starts a process in its own session with exactly the plan's descriptors, identity, environment and directory. It does
 * not keep our event loop alive, and our end is not its end. Throws VmError when it cannot be started, with the kinds
 * that host.ts lists. Nobody else may reap it: a `waitpid` of it elsewhere would take the exit away from `exited`.
 */
export function spawnProcess(native: Native, plan: SpawnPlan): SpawnedProcess {
  if (!isAbsolute(plan.file)) {
    throw new VmError(
      'InvalidArgument',
      `the program "${plan.file}" is not an absolute path; give its full path`,
    );
  }
  // libuv gives /dev/null to 0, 1 and 2 only, and Node would make pipes of the standard ones that are left out.
  using devNull = ownFd(withErrno('open /dev/null', () => openSync('/dev/null', constants.O_RDWR)));
  const count = Math.max(3, plan.fds.length);
  const stdio = Array.from({ length: count }, (_, i) => plan.fds[i] ?? devNull.fd);

  closeAllOnExec(native);
  const { child, pid } = inNetwork(native, plan.network, () => startDetached(plan, stdio));
  child.unref();
  const exited = new Promise<ProcessExit>((resolve) => {
    child.once('exit', (code, signal) => resolve(toExit(code, signal)));
  });
  return { pid, exited };
}

function inNetwork<T>(native: Native, network: ProcessNetwork, start: () => T): T {
  if (network === 'inherit') return start();
  if (network === 'empty') return inEmptyNetwork(native, start);
  return inNetworkNamespace(native, network.path, start);
}

function startDetached(plan: SpawnPlan, stdio: number[]): { child: ChildProcess; pid: number } {
  // Node tells of a missing or forbidden file by an event later on, but of its errno at once on this channel.
  const channel = 'tracing:child_process.spawn:error';
  let reason = new Error('the kernel gave no reason');
  const onError = (message: unknown): void => {
    if (
      typeof message === 'object' &&
      message !== null &&
      'error' in message &&
      message.error instanceof Error
    ) {
      reason = message.error;
    }
  };
  subscribe(channel, onError);
  try {
    // Not imported: it costs 2 ms, and the shim's answer to `start` does without.
    const { spawn } = process.getBuiltinModule('node:child_process');
    const child = spawn(plan.file, plan.args, {
      cwd: plan.cwd,
      env: { ...plan.env },
      uid: plan.uid,
      gid: plan.gid,
      stdio,
      detached: true,
    });
    child.on('error', () => undefined);
    if (child.pid === undefined) throw reason;
    return { child, pid: child.pid };
  } catch (error) {
    throw startError(plan, error);
  } finally {
    unsubscribe(channel, onError);
  }
}

function startError(plan: SpawnPlan, error: unknown): VmError {
  if (errnoName(error) === 'ENOENT' && !existsSync(plan.cwd)) {
    return new VmError('NotFound', `cannot start ${plan.file}: its directory ${plan.cwd} does not exist`, {
      cause: error,
    });
  }
  return toVmError(error, `start ${plan.file} as uid ${plan.uid}`);
}

/** Descriptors that came from whoever started us may lack the flag; the child must not get them. */
function closeAllOnExec(native: Native): void {
  for (const name of withErrno('list our descriptors', () => readdirSync('/proc/self/fd'))) {
    const fd = Number(name);
    if (fd < 3) continue;
    try {
      native.setCloexec(fd, true);
    } catch (error) {
      // The descriptor of the listing itself is closed by now.
      if (errnoName(error) !== 'EBADF') throw toVmError(error, `set close-on-exec on descriptor ${fd}`);
    }
  }
}

function toExit(code: number | null, signal: NodeJS.Signals | null): ProcessExit {
  if (signal !== null) return { kind: 'signaled', signal: osConstants.signals[signal] };
  return { kind: 'exited', code: code ?? 0 };
}
