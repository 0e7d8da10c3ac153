import { setTimeout as delay } from 'node:timers/promises';
import type { ChaosNode } from './chaos-node.ts';
import type { ChaosVm } from './chaos-vm.ts';
import type { Boots } from './guest-model.ts';
import type { Effect, Powers } from './power-model.ts';
import type { Random } from './random.ts';

/** Seconds: more than the guest takes to power off on a busy machine. */
export const GRACE = 60;

/** What an action acts on: one VM, and the node with all of them. */
export interface Scene {
  readonly chaos: ChaosNode;
  readonly vm: ChaosVm;
  /** What the VM may have been before it. */
  readonly before: Powers;
  readonly random: Random;
  readonly vms: readonly ChaosVm[];
  /** Whether nothing else is done meanwhile that could make it fail. */
  readonly alone: boolean;
}

/** Something that is done to a VM or its node. Afterwards nobody waits for it: kubelet brings the pods back. */
export interface Action {
  /** Whether it breaks something. */
  readonly fault: boolean;
  /** What it means for the guest of its VM. */
  readonly boots: Boots;
  /** The same for the guests of the others; `never` without it. */
  readonly others?: Boots;
  /** What it means for the power of its VM; without it, what booting means. */
  readonly power?: Effect;
  /** Whether it is somebody else than kubelet who starts the guest. */
  readonly starts?: boolean;
  /** Whether it may come while another action is under way. */
  readonly besides?: boolean;
  /** Whether it ends containerd, which two cannot do at once. */
  readonly containerd?: boolean;
  /** Whether it is done to the agent or the API server alone: whatever else is under way comes to what it would have. */
  readonly agentOnly?: boolean;
  /** Whether it collects garbage by what the node alone knows. */
  readonly collects?: boolean;
  /** Whether meanwhile nobody but the API server knows of its pod: no time for those that `collects`. */
  readonly unknown?: boolean;
  readonly run: (scene: Scene) => Promise<void>;
}

export const some = (random: Random, milliseconds: number): Promise<void> =>
  delay(random.below(milliseconds));
