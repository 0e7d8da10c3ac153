import type { MemoryPolicy } from '../core/guest-ram.ts';
import { VmError } from '../core/errors.ts';
import { formatBytes } from '../core/quantity.ts';
import type { Share } from './claim.ts';
import {
  byKeys,
  fits,
  memoryRoom,
  type NodeRoom,
  type PlacementPolicy,
  type PlacementRequest,
} from './node-room.ts';
import { spread } from './spread.ts';

export type Placement =
  /** One share: all of the VM on one node. Several: a guest with NUMA nodes of its own, one per share. */
  | { readonly kind: 'bound'; readonly shares: readonly Share[]; readonly memory: MemoryPolicy }
  /** Left to the kernel; `reason` tells why, as the end of a sentence. Its shares are what it counts for. */
  | { readonly kind: 'float'; readonly shares: readonly Share[]; readonly reason: FloatReason };

/** `kubelet`: its cpuset is neither on one node nor divisible over several. */
export type FloatReason = 'asked' | 'no-room' | 'kubelet';

/** Up to this part of a node's memory the books are trusted. */
const BIND_SHARE = 0.8;

/**
 * The place of a VM: among the nodes where what is taken and asked for stays within the thresholds, the one whose CPU
 * and memory shares differ least afterwards, so that neither runs out while much of the other is left; then the one
 * with most memory free, then the lowest id. Shares are parts of what the thresholds allow. A node close to a wished
 * device comes first.
 *
 * A VM never oversubscribes by itself: it fits only where the node has as many CPUs as it has vCPUs.
 * @throws VmError ResourceExhausted where the choice or the policy leaves no other way, NotFound for a node that is not
 * there.
 */
export function place(
  nodes: readonly NodeRoom[],
  request: PlacementRequest,
  policy: PlacementPolicy,
): Placement {
  const { choice } = request;
  switch (choice.kind) {
    case 'none':
      return { kind: 'float', shares: everywhere(nodes, request), reason: 'asked' };
    case 'node':
      return bound([onChosenNode(nodes, request, policy, choice.node)], nodes);
    case 'spread': {
      const shares = request.canSpread ? spread(nodes, request, policy) : undefined;
      if (shares !== undefined) return bound(shares, nodes);
      throw noRoom(request, 'several nodes together; each has to take one vCPU at least');
    }
    case 'near':
    case 'auto': {
      const best = bestNode(nodes, request, policy);
      if (best !== undefined) return bound([best], nodes);
      if (policy.overflow === 'refuse') throw noRoom(request, 'any node; raise the thresholds or overflow');
      const shares =
        policy.overflow === 'spread' && request.canSpread ? spread(nodes, request, policy) : undefined;
      if (shares !== undefined) return bound(shares, nodes);
      return { kind: 'float', shares: everywhere(nodes, request), reason: 'no-room' };
    }
  }
}

/**
 * The place of a VM whose CPUs kubelet has chosen (static CPU manager): thresholds are not asked, kubelet admitted it.
 * @param nodes those that its cpuset touches, each with the CPUs of it there.
 */
export function placeDecided(nodes: readonly NodeRoom[], request: PlacementRequest): Placement {
  const [only, ...more] = nodes;
  if (only !== undefined && more.length === 0) return bound([whole(only, request)], nodes);
  const own = nodes.map((node) => ({ ...node, usedVcpus: 0 }));
  const policy = { cpuThreshold: 1, memoryThreshold: 1, overflow: 'float' } as const;
  const shares = request.canSpread ? spread(own, request, policy) : undefined;
  if (shares !== undefined) return bound(shares, nodes);
  return { kind: 'float', shares: everywhere(nodes, request), reason: 'kubelet' };
}

function bestNode(
  nodes: readonly NodeRoom[],
  request: PlacementRequest,
  policy: PlacementPolicy,
): Share | undefined {
  const keys = (node: NodeRoom): number[] => [
    farness(node, request.near),
    imbalance(node, request, policy),
    -memoryRoom(node, policy),
    node.id,
  ];
  const [best] = nodes
    .filter((node) => fits(node, request, policy))
    .map((node) => ({ node, keys: keys(node) }))
    .sort((a, b) => byKeys(a.keys, b.keys));
  return best && whole(best.node, request);
}

function imbalance(node: NodeRoom, request: PlacementRequest, policy: PlacementPolicy): number {
  const cpu = (node.usedVcpus + request.vcpus) / (policy.cpuThreshold * node.cpus);
  const memory = (node.usedBytes + request.memoryBytes) / (policy.memoryThreshold * node.memoryBytes);
  return Math.abs(cpu - memory);
}

function farness(node: NodeRoom, near: readonly number[]): number {
  return near.reduce(
    (sum, device) => sum + (node.distances.get(device) ?? (device === node.id ? 10 : 20)),
    0,
  );
}

function onChosenNode(
  nodes: readonly NodeRoom[],
  request: PlacementRequest,
  policy: PlacementPolicy,
  id: number,
): Share {
  const node = nodes.find((candidate) => candidate.id === id);
  if (node === undefined) {
    throw new VmError(
      'NotFound',
      `annotation vmshim.io/numa is "${id}", but VMs can be placed on nodes ${nodes.map((one) => one.id).join(', ')} only; choose one of these or "auto"`,
    );
  }
  if (!fits(node, request, policy)) throw noRoom(request, `node ${id}; choose another or "auto"`);
  return whole(node, request);
}

function whole({ id }: NodeRoom, { vcpus, memoryBytes }: PlacementRequest): Share {
  return { node: id, vcpus, memoryBytes };
}

function bound(shares: readonly Share[], nodes: readonly NodeRoom[]): Placement {
  const trusted = shares.every(({ node: id, memoryBytes }) => {
    const node = nodes.find((candidate) => candidate.id === id);
    return node !== undefined && node.usedBytes + memoryBytes <= BIND_SHARE * node.memoryBytes;
  });
  return { kind: 'bound', shares, memory: trusted ? 'bind' : 'preferred' };
}

/** A VM that runs anywhere counts on every node by the node's size. */
function everywhere(nodes: readonly NodeRoom[], request: PlacementRequest): Share[] {
  const part = (of: (node: NodeRoom) => number, node: NodeRoom): number =>
    of(node) /
    Math.max(
      1,
      nodes.reduce((sum, one) => sum + of(one), 0),
    );
  return nodes.map((node) => ({
    node: node.id,
    vcpus: request.vcpus * part(({ cpus }) => cpus, node),
    memoryBytes: Math.round(request.memoryBytes * part(({ memoryBytes }) => memoryBytes, node)),
  }));
}

function noRoom({ vcpus, memoryBytes }: PlacementRequest, where: string): VmError {
  return new VmError(
    'ResourceExhausted',
    `a VM of ${vcpus} vCPUs and ${formatBytes(memoryBytes)} does not fit on ${where}; "vmctl numa" shows what is taken`,
  );
}
