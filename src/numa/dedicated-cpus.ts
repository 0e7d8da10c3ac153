import { VmError } from '../core/errors.ts';

/** CPUs in groups that are physical cores. */
export type Cores = readonly (readonly number[])[];

/** The CPUs of one VM that shares none. */
export interface DedicatedCpus {
  /** One per vCPU, in their order. */
  readonly vcpus: readonly number[];
  /** Every CPU of the cores taken; the ones no vCPU runs on are for the emulator's threads. */
  readonly taken: readonly number[];
}

/** The cores of which every CPU may be taken and none is. */
export function freeCores(cores: Cores, pool: readonly number[], taken: ReadonlySet<number>): Cores {
  const may = new Set(pool);
  return cores.filter((core) => core.every((cpu) => may.has(cpu) && !taken.has(cpu)));
}

/**
 * Takes whole cores for `vcpus`, the lowest first: siblings of a core serve the same VM, and what an odd number leaves
 * over is the VM's too. Throws ResourceExhausted when there are too few.
 */
export function takeCores(free: Cores, vcpus: number): DedicatedCpus {
  const taken: number[] = [];
  for (const core of free) {
    if (taken.length >= vcpus) break;
    taken.push(...core);
  }
  if (taken.length >= vcpus) return { vcpus: taken.slice(0, vcpus), taken: taken.sort((a, b) => a - b) };
  throw new VmError(
    'ResourceExhausted',
    `${vcpus} vCPUs want CPUs of their own, but ${taken.length} are free; "vmctl numa" shows who has them`,
  );
}
