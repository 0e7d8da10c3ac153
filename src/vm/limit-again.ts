import { describeError, VmError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import type { CpuResources } from '../core/vm-spec.ts';
import type { Machine } from './machine.ts';

/**
 * Gives a machine what was asked of an earlier one of its VM, or of nobody: RAM that the node has no more is no reason to leave
 * the guest without a machine.
 * @throws VmError as Machine.update, but for RAM
 */
export async function limitAgain(
  machine: Machine,
  cpu: CpuResources | undefined,
  memoryLimit: number | undefined,
  log: Pick<Logger, 'warn'>,
  signal: AbortSignal,
): Promise<void> {
  try {
    await machine.limitMemory(memoryLimit, signal);
  } catch (error) {
    if (!VmError.is(error, 'ResourceExhausted') && !VmError.is(error, 'FailedPrecondition')) throw error;
    log.warn('the VM goes on with the RAM that it has', {
      id: machine.spec.id,
      error: describeError(error),
    });
  }
  if (cpu !== undefined) await machine.update(cpu, undefined, signal);
}
