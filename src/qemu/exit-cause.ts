import { constants } from 'node:os';
import type { ExitReason } from '../core/exit.ts';
import type { ProcessExit } from '../host/host.ts';
import type { ShutdownCause, VmEvent } from './qmp-events.ts';

/** What QEMU's events have told so far about an end of the guest. */
export interface ExitEvidence {
  /** How the guest ended itself, if it has and was not booted again since. */
  readonly guest: 'running' | 'shutdown' | 'reset' | 'panic';
  /** The cause of the last SHUTDOWN that was the host's doing. */
  readonly host: ShutdownCause | undefined;
}

export const noExitEvidence: ExitEvidence = { guest: 'running', host: undefined };

/** Pure fold over the events in the order they came; repeated events change nothing. */
export function noteExitEvent(evidence: ExitEvidence, event: VmEvent): ExitEvidence {
  switch (event.name) {
    case 'GUEST_PANICKED':
      return { ...evidence, guest: 'panic' };
    case 'SHUTDOWN':
      // Our own `quit` after the guest's power-off brings a second SHUTDOWN: it must not hide the first.
      if (!event.guest) return { ...evidence, host: event.reason };
      // A crash kernel may power off after a panic; the panic stays the reason.
      if (evidence.guest === 'panic' || event.reason === 'guest-panic')
        return { ...evidence, guest: 'panic' };
      return { ...evidence, guest: event.reason === 'guest-reset' ? 'reset' : 'shutdown' };
    case 'RESET':
      return noExitEvidence;
    case 'STOP':
    case 'RESUME':
    case 'POWERDOWN':
    case 'BLOCK_IO_ERROR':
    case 'BALLOON_CHANGE':
    case 'MEMORY_DEVICE_SIZE_CHANGE':
      return evidence;
  }
}

export interface ExitFacts {
  readonly exit: ProcessExit;
  readonly evidence: ExitEvidence;
  /** The last signal that a caller asked us to give the VM. */
  readonly requestedSignal: number | undefined;
  /** The kernel's OOM killer has struck in the VM's cgroup. */
  readonly oomKilled: boolean;
  /** QEMU's last log lines, the newest last, without the program's name (`QemuLog.tail`). */
  readonly logTail: readonly string[];
}

const { SIGKILL, SIGTERM } = constants.signals;

/**
 * Why QEMU ended. In this order: a caller's SIGKILL; what the guest did to itself, however QEMU then ended (we quit it
 * after a power-off); a signal; QEMU's exit status.
 */
export function exitReason(facts: ExitFacts): ExitReason {
  const { exit, evidence } = facts;
  if (exit.kind === 'signaled' && exit.signal === SIGKILL && facts.requestedSignal === SIGKILL) {
    return { kind: 'killed', signal: SIGKILL };
  }
  switch (evidence.guest) {
    case 'panic':
      return { kind: 'guest-panic' };
    case 'reset':
      return { kind: 'guest-reset' };
    case 'shutdown':
      return { kind: 'guest-shutdown' };
    case 'running':
      return exit.kind === 'signaled' ? signaledReason(exit.signal, facts) : exitedReason(exit.code, facts);
  }
}

function signaledReason(signal: number, { requestedSignal, oomKilled }: ExitFacts): ExitReason {
  if (signal === SIGKILL && oomKilled) return { kind: 'out-of-memory' };
  // A caller's gentler signal ends in SIGKILL when its grace period has passed.
  const asked = requestedSignal !== undefined && (signal === requestedSignal || signal === SIGKILL);
  return { kind: asked ? 'killed' : 'crashed', signal };
}

function exitedReason(code: number, { evidence, requestedSignal, logTail }: ExitFacts): ExitReason {
  if (code !== 0) {
    return { kind: 'qemu-error', code, message: logTail.at(-1) ?? 'it left nothing in its log' };
  }
  if (requestedSignal !== undefined) return { kind: 'killed', signal: requestedSignal };
  // QEMU catches SIGTERM, SIGINT and SIGHUP and exits with 0; its log still names the signal when QMP is gone.
  const signal = logTail.map(terminatingSignal).findLast((number) => number !== undefined);
  if (signal !== undefined || evidence.host === 'host-signal') {
    return { kind: 'crashed', signal: signal ?? SIGTERM };
  }
  const message =
    evidence.host === 'host-qmp-quit'
      ? 'a QMP client other than the shim told it to quit'
      : (evidence.host ?? logTail.at(-1) ?? 'it left nothing in its log');
  return { kind: 'qemu-error', code, message };
}

function terminatingSignal(line: string): number | undefined {
  const match = /^terminating on signal (\d+)/.exec(line);
  return match === null ? undefined : Number(match[1]);
}
