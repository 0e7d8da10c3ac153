import type { Claim } from './claim.ts';
import type { MemoryPolicy } from './placement.ts';

/** The whole of a decision: what is written into books, cgroup, QEMU's command line and threads. */
export interface NumaPlan {
  readonly claim: Claim;
  /** For the cpuset of the VM's cgroup; undefined: as it is. */
  readonly cpus: readonly number[] | undefined;
  readonly ram: NumaRam;
  readonly pins: VcpuPins | undefined;
  /** For people. */
  readonly summary: string;
  /** What an operator should know. */
  readonly warning: string | undefined;
}

/** Guest RAM: in one piece, or in parts that the guest sees as NUMA nodes, with the ACPI SLIT among them. */
export type NumaRam =
  | { readonly kind: 'whole'; readonly host: HostMemory | undefined }
  | { readonly kind: 'nodes'; readonly nodes: readonly GuestNode[]; readonly distances: readonly number[][] };

export interface GuestNode {
  readonly vcpus: number;
  readonly memoryBytes: number;
  readonly host: HostMemory;
}

export interface HostMemory {
  readonly node: number;
  readonly policy: MemoryPolicy;
}

/** CPUs of single threads, within the cpuset. */
export interface VcpuPins {
  /** By vCPU index. */
  readonly vcpus: readonly (readonly number[])[];
  /** QEMU's other threads; undefined: anywhere in the cpuset. */
  readonly emulator: readonly number[] | undefined;
}
