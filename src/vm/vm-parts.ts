import type { Logger } from '../core/logger.ts';
import type { VmSpec } from '../core/vm-spec.ts';
import type { KeptPower } from './kept-power.ts';
import type { Machine } from './machine.ts';
import type { PowerRecord } from './record.ts';

/** What a VM is made of; handed over by `createMachine`. */
export interface VmParts {
  readonly spec: VmSpec;
  readonly log: Logger;
  /** The first one, not started yet. */
  readonly machine: Machine;
  /** What an earlier shim has written down of its power, where the guest is that one's. */
  readonly earlier: PowerRecord | undefined;
  /** Makes another one of the same VM: the same disks, cards, cgroup and names. */
  readonly boot: (signal: AbortSignal) => Promise<Machine>;
  /** Takes away what outlives a QEMU and what the next one makes anew; idempotent. */
  readonly unplug: () => Promise<void>;
  /** Writes the VM's power into its record; with `noQemu` also that its last QEMU has ended. */
  readonly record: (power: PowerRecord, noQemu: boolean) => void;
  readonly kept: KeptPower;
  /** Gives back everything that was acquired for this VM; idempotent. */
  readonly release: () => Promise<void>;
}

/** What has to happen to a new machine before its guest runs. */
export type MachineHook = (machine: Machine, signal: AbortSignal) => Promise<void>;
