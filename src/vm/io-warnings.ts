import type { IoRecovery } from './io-recovery.ts';
import { describeTrouble } from './io-trouble.ts';
import type { MachineState } from './machine-state.ts';

/** One sentence for each trouble with disks, for `vmctl status`. */
export function ioWarnings(state: MachineState, { trouble, reported }: IoRecovery): string[] {
  const warnings: string[] = [];
  if (trouble !== undefined && state.t === 'paused') {
    const remedy = trouble.noSpace
      ? 'make space in the file system of that disk'
      : 'see what the node says of that disk (dmesg)';
    const then = state.asked
      ? 'the VM is paused besides, resume it then'
      : 'the VM goes on by itself within 30 s, or at once with "vmctl resume"';
    warnings.push(`${describeTrouble(trouble)}, since ${time(trouble.since)}: ${remedy}; ${then}`);
  }
  if (reported !== undefined) {
    const { errors, since } = reported;
    warnings.push(`${describeTrouble(reported)}; the guest was told ${errors} times since ${time(since)}`);
  }
  return warnings;
}

function time(at: number): string {
  return new Date(at).toISOString();
}
