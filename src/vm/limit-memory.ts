import { ANNOTATION_PREFIX } from '../core/annotations.ts';
import { MIB } from '../core/quantity.ts';
import type { VmSpec } from '../core/vm-spec.ts';
import type { Cgroup } from '../host/cgroup-plan.ts';
import { limitMemory, memoryBound } from '../host/cgroup-memory.ts';
import type { Host } from '../host/host.ts';
import { type MemoryNeed, memoryLimit, memoryNeed } from './memory-need.ts';

/**
 * Gives a VM's existing cgroup its memory limit. The pod's own is kubelet's business; where it is less than what the VM is
 * expected to need, the kernel will end the VM when its guest makes use of its RAM.
 * @returns what an operator should know of that.
 */
export function limitVmMemory(
  host: Host,
  cgroup: Cgroup,
  spec: VmSpec,
  { accel, cards }: { readonly accel: 'kvm' | 'tcg'; readonly cards: number },
): string | undefined {
  const need = memoryNeed(spec, accel, cards);
  limitMemory(host, cgroup, memoryLimit(need));
  return shortage(need, memoryBound(host, cgroup));
}

/** Undefined where the bound is large enough. */
export function shortage({ ram, beside }: MemoryNeed, bound: number | undefined): string | undefined {
  if (bound === undefined || bound >= ram + beside) return undefined;
  const mib = (bytes: number): number => Math.ceil(bytes / MIB);
  return `the pod’s memory limit is ${Math.floor(bound / MIB)} MiB, but the VM may need ${mib(ram + beside)} MiB (${mib(ram)} of RAM, ${mib(beside)} beside it) and is killed when it does: raise the RuntimeClass’s overhead or lower ${ANNOTATION_PREFIX}memory`;
}
