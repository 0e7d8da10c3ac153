import type { Config } from '../core/config.ts';
import type { VmSpec } from '../core/vm-spec.ts';
import type { Cgroup } from '../host/cgroup-plan.ts';
import type { Host } from '../host/host.ts';
import type { Claim } from '../numa/claim.ts';
import { amend, type Ledger } from '../numa/ledger.ts';
import { resizedClaim, scaledClaim } from '../numa/resize-claim.ts';
import { readTopology } from '../numa/topology.ts';
import { checkCapacity } from './capacity.ts';
import { limitVmMemory } from './limit-memory.ts';
import type { MemoryHold } from './live-memory.ts';
import type { NumaRecord } from './record.ts';

export interface HoldParts {
  readonly spec: VmSpec;
  readonly config: Config;
  readonly key: string;
  readonly cgroup: Cgroup;
  readonly kind: { readonly accel: 'kvm' | 'tcg'; readonly cards: number };
  /** The books that the VM is in: none on a machine with nothing to choose. */
  readonly ledger: Ledger | undefined;
  readonly claim: Claim;
  /** Writes the claim into the VM's record before it is in the books. */
  readonly record: (numa: NumaRecord) => void;
}

/** Has record, books and cgroup follow the RAM of a running VM. */
export function holdMemory(host: Host, parts: HoldParts): MemoryHold {
  const { spec, config, key, cgroup, kind, ledger, record } = parts;
  let recorded = parts.claim;
  const write = (claim: Claim): Claim => {
    record({ ledger: ledger?.path, claim });
    recorded = claim;
    return claim;
  };
  return {
    claim: async (memoryBytes, signal) => {
      checkCapacity(host, { memoryBytes });
      if (ledger === undefined) {
        write(scaledClaim(recorded, memoryBytes));
        return;
      }
      const topology = readTopology(host);
      const decide = (own: Claim, others: readonly Claim[]): Claim =>
        write(resizedClaim(own, others, memoryBytes, topology, config.numa));
      await amend(ledger, key, decide, signal);
    },
    limit: (memoryBytes) =>
      config.limitMemory ? limitVmMemory(host, cgroup, { ...spec, memoryBytes }, kind) : undefined,
  };
}
