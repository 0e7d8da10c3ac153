import type { TaskExit } from '../core/exit.ts';
import type { Logger } from '../core/logger.ts';
import type { CpuResources, VmSpec } from '../core/vm-spec.ts';
import type { Cgroup } from '../host/cgroup-plan.ts';
import type { NicCounters } from '../net/nic-counters.ts';
import type { QemuProcess } from '../qemu/process.ts';
import type { GuestFigures } from './guest-figures.ts';
import type { LiveMemoryParts } from './live-memory.ts';
import type { VmNames } from './names.ts';
import type { NicStatus } from './nic-status.ts';
import type { SharedFacts } from './shared-directories.ts';
import type { Timeline } from './timeline.ts';
import type { DiskFacts } from './vm-disks.ts';
import type { VmScreen } from './vm-screen.ts';

/** What a created VM is made of; handed over by `createMachine`. */
export interface MachineParts {
  readonly spec: VmSpec;
  readonly names: VmNames;
  readonly facts: MachineFacts;
  readonly consoleLog: string;
  readonly qemu: QemuProcess;
  /** How many vCPUs it has. */
  readonly vcpus: number;
  /** What RAM it has and can have. */
  readonly ram: Pick<LiveMemoryParts, 'base' | 'room' | 'plugged' | 'held' | 'hold'>;
  /** Undefined for a VM without a graphics card. */
  readonly screen: VmScreen | undefined;
  /** What serves the guest while it lives: its DHCP responders, and the way of forwarded ports. */
  readonly services: Disposable;
  readonly nicStatus: (signal: AbortSignal) => Promise<NicStatus[]>;
  readonly timeline: Timeline;
  readonly log: Logger;
  /** A sentence for each shared directory that the guest has no more. */
  readonly lostDirectories: () => readonly string[];
  /** Whether the kernel's OOM killer has struck in the VM's cgroup. */
  readonly oomKilled: () => boolean;
  /** Writes the exit into the record, for clean-up and `vmctl`. */
  readonly recordExit: (exit: TaskExit) => void;
  readonly nicCounters: () => NicCounters[];
  readonly guestFigures: (signal: AbortSignal) => Promise<GuestFigures>;
  readonly limitCpu: (resources: CpuResources) => void;
  /** Gives back everything that was acquired for this VM; idempotent. */
  readonly release: () => Promise<void>;
}

/** What was decided at creation, for people and for `vmctl status`. */
export interface MachineFacts {
  readonly accel: 'kvm' | 'tcg';
  readonly accelReason: string;
  readonly machineType: string;
  readonly qemuVersion: string;
  readonly rootDisk: string;
  /** All others. */
  readonly disks: readonly DiskFacts[];
  readonly shared: readonly SharedFacts[];
  readonly network: string;
  /** Where on the host's memory nodes it runs. */
  readonly numa: string;
  readonly cgroup: Cgroup;
  readonly warnings: readonly string[];
}
