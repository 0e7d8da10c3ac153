import { VmError } from '../core/errors.ts';
import type { VmSpec } from '../core/vm-spec.ts';
import type { Host } from '../host/host.ts';

const GIB = 2 ** 30;

/**
 * Refuses a VM with more RAM than the node has at all: QEMU would start (its RAM is not touched yet) and the guest would
 * take the node down. @throws VmError FailedPrecondition.
 */
export function checkCapacity(host: Host, spec: Pick<VmSpec, 'memoryBytes'>): void {
  const total = /^MemTotal:\s+(\d+) kB/m.exec(host.readText('/proc/meminfo'))?.[1];
  if (total === undefined) return;
  const totalBytes = Number(total) * 1024;
  if (spec.memoryBytes <= totalBytes) return;
  const gib = (bytes: number): string => (bytes / GIB).toFixed(1);
  throw new VmError(
    'FailedPrecondition',
    `memory ${gib(spec.memoryBytes)} GiB is more than the ${gib(totalBytes)} GiB this node has; ask for less or use a larger node`,
  );
}
