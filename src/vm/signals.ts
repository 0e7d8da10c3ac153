import { constants } from 'node:os';
import { VmError } from '../core/errors.ts';

/** What a signal sent to a task means to a machine, which has no processes we could signal. */
export type SignalAction = 'probe' | 'ignore' | 'power-button' | 'kill';

const SIGRTMAX = 64;
const { SIGKILL, SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU } = constants.signals;
/** Signals that do not end an ordinary process; a machine has no use for them. */
const HARMLESS = new Set([SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU]);

/**
 * Every signal that would end a process presses the ACPI power button, whatever stop signal an image names (systemd
 * images name SIGRTMIN+3); SIGKILL ends QEMU itself. Source: signal(7) for the default actions.
 * @throws VmError InvalidArgument for a number that is no signal.
 */
export function signalAction(signal: number): SignalAction {
  if (!Number.isInteger(signal) || signal < 0 || signal > SIGRTMAX) {
    throw new VmError(
      'InvalidArgument',
      `signal ${signal} is no signal; it must be between 0 and ${SIGRTMAX}`,
    );
  }
  if (signal === 0) return 'probe';
  if (signal === SIGKILL) return 'kill';
  return HARMLESS.has(signal) ? 'ignore' : 'power-button';
}
