import { criContainerd } from '../cri-containerd.ts';
import type { TestScope } from '../containerd.ts';
import { faults } from './faults.ts';
import { JournalVm } from './journal-vm.ts';
import { removeEarlierBoots } from './node-reboot.ts';
import { Random } from './random.ts';

export interface DrillPlan {
  /** Decides which faults come when, and how far the guest is then. */
  readonly seed: number;
  readonly rounds: number;
}

/** What a drill has come to; a loss ends it with an error. */
export interface DrillReport {
  readonly seed: number;
  /** Faults that came so far, after each of which the disk was looked at. */
  readonly rounds: number;
  readonly seconds: number;
  /** How often each of them came. */
  readonly faults: Readonly<Record<string, number>>;
  /** How often the guest has booted and verified its disk. */
  readonly boots: number;
  /** Bytes that these boots have found as they had been flushed. */
  readonly bytes_verified: number;
  /** Generations that the guest has flushed. */
  readonly flushed: number;
  /** Clusters of the overlay that belong to nothing since QEMU was killed. */
  readonly leaked: number;
}

type FaultName = keyof typeof faults;
const NAMES = Object.keys(faults) as FaultName[];

/** All faults in one order, then all in another, and so on: as random as it must be, and none is left out. */
export function planFaults({ rounds }: DrillPlan, random: Random): FaultName[] {
  const orders = Array.from({ length: Math.ceil(rounds / NAMES.length) }, () => random.shuffle(NAMES));
  return orders.flat().slice(0, rounds);
}

/**
 * A VM writes, something happens to it at some point, it boots again and proves that what it had flushed is there; and so
 * on. The data directory is a small file system in memory, so that it can be filled without filling the machine's.
 * @param progress is told what has been reached after each round.
 * @throws what was lost, with what repeats it.
 */
export async function runDataDrill(
  t: TestScope,
  plan: DrillPlan,
  say: (line: string) => void,
  progress: (report: DrillReport) => void = () => undefined,
): Promise<DrillReport> {
  const node = await criContainerd(t);
  const data = `${node.containerd.directory}/data`;
  await node.network.run('mkdir', data);
  await node.network.run('mount', '-t', 'tmpfs', '-o', 'size=192m,mode=700', 'tmpfs', data);
  t.teardown(() => node.network.run('umount', data));
  const random = new Random(plan.seed);
  const vm = new JournalVm(t, node, plan.seed);
  const counts: Record<string, number> = {};
  const began = performance.now();
  const seconds = (): number => (performance.now() - began) / 1000;
  const report = (rounds: number): DrillReport => ({
    seed: plan.seed,
    rounds,
    seconds: Math.round(seconds()),
    faults: counts,
    boots: vm.boots,
    bytes_verified: vm.verified,
    flushed: vm.flushed,
    leaked: vm.leaked,
  });
  for (const [round, name] of planFaults(plan, random).entries()) {
    const fault = faults[name];
    try {
      await vm.boot();
      await vm.writes(1 + random.below(200));
      say(`${seconds().toFixed(1)} s, round ${round + 1}: ${name}, after generation ${vm.flushed}`);
      await fault(vm, random);
    } catch (error) {
      const repeat = `npm run chaos -- --seed ${plan.seed} --rounds ${round + 1}`;
      throw new Error(`round ${round + 1} of seed ${plan.seed} (${name}); to repeat: ${repeat}`, {
        cause: error,
      });
    }
    counts[name] = (counts[name] ?? 0) + 1;
    progress(report(round + 1));
  }
  await vm.boot();
  await vm.container.stop(0);
  await vm.ended();
  await vm.removePod();
  removeEarlierBoots(node);
  return report(plan.rounds);
}
