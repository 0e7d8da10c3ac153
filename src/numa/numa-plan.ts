import type { Claim } from './claim.ts';
import type { GuestRam } from '../core/guest-ram.ts';

/** The whole of a decision: what is written into books, cgroup, QEMU's command line and threads. */
export interface NumaPlan {
  readonly claim: Claim;
  /** For the cpuset of the VM's cgroup; undefined: as it is. */
  readonly cpus: readonly number[] | undefined;
  readonly ram: GuestRam;
  readonly pins: VcpuPins | undefined;
  /** For people. */
  readonly summary: string;
  /** What an operator should know. */
  readonly warning: string | undefined;
}

/** CPUs of single threads, within the cpuset. */
export interface VcpuPins {
  /** By vCPU index. */
  readonly vcpus: readonly (readonly number[])[];
  /** QEMU's other threads; undefined: anywhere in the cpuset. */
  readonly emulator: readonly number[] | undefined;
}
