import { VmError } from '../core/errors.ts';
import { formatBytes, MIB } from '../core/quantity.ts';
import { type Claim, claimedBytes, usageOf } from './claim.ts';
import type { Topology } from './topology.ts';
import { usableNodes } from './usable-nodes.ts';

/** What a VM that is on one node has is counted there; of one that is anywhere, in proportion. */
export function scaledClaim(claim: Claim, memoryBytes: number): Claim {
  const before = claimedBytes(claim);
  if (before === memoryBytes || before === 0) return claim;
  const shares = claim.shares.map((share) => ({
    ...share,
    memoryBytes: (share.memoryBytes / before) * memoryBytes,
  }));
  return { ...claim, shares };
}

/**
 * The claim of a running VM whose RAM is to be `memoryBytes`. Less is always granted. More is, to a VM that is on one node,
 * where the others' claims leave that much of the node below the threshold: its RAM comes from there. One that is bound to
 * no node takes it from wherever it is.
 * @throws VmError ResourceExhausted with what is left.
 */
export function resizedClaim(
  claim: Claim,
  others: readonly Claim[],
  memoryBytes: number,
  topology: Topology,
  { memoryThreshold }: { readonly memoryThreshold: number },
): Claim {
  const resized = scaledClaim(claim, memoryBytes);
  const [before, ...more] = claim.shares;
  if (before === undefined || more.length > 0 || memoryBytes <= before.memoryBytes) return resized;
  const node = usableNodes(topology).find(({ id }) => id === before.node);
  if (node === undefined) return resized;
  const limit = memoryThreshold * node.memoryBytes;
  const used = usageOf(others).memoryBytes(node.id, claim.pageBytes);
  if (used + memoryBytes <= limit) return resized;
  const mib = (bytes: number): string => formatBytes(Math.max(0, Math.floor(bytes / MIB)) * MIB);
  throw new VmError(
    'ResourceExhausted',
    `memory cannot grow to ${formatBytes(memoryBytes)}: the VM’s node ${node.id} has ${mib(limit - used)} for it, of ${mib(limit)} for VMs; "vmctl numa" shows who has the rest, numa.memory_threshold of the config file says how much VMs may take`,
  );
}
