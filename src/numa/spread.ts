import type { Share } from './claim.ts';
import {
  byKeys,
  cpuRoom,
  fits,
  memoryRoom,
  type NodeRoom,
  type PlacementPolicy,
  type PlacementRequest,
} from './node-room.ts';

/**
 * Divides a VM over the fewest nodes, two at least, that can take it together: in equal parts on nodes close to each
 * other, else, on machines with uneven nodes, by what they have left. Every part has a vCPU. Undefined where no
 * number of nodes will do.
 */
export function spread(
  nodes: readonly NodeRoom[],
  request: PlacementRequest,
  policy: PlacementPolicy,
): Share[] | undefined {
  const most = Math.min(nodes.length, request.vcpus, Math.floor(request.memoryBytes / request.stepBytes));
  for (let count = 2; count <= most; count++) {
    const shares = evenly(nodes, request, policy, count) ?? byRoom(nodes, request, policy, count);
    if (shares !== undefined) return shares;
  }
  return undefined;
}

function evenly(
  nodes: readonly NodeRoom[],
  request: PlacementRequest,
  policy: PlacementPolicy,
  count: number,
): Share[] | undefined {
  const equal = Array.from({ length: count }, () => 1);
  const parts = divide(request, equal, equal);
  const [largest] = parts;
  if (largest === undefined) return undefined;
  // Every node of the group can take the largest part, so it does not matter which gets which.
  const group = closest(
    nodes.filter((node) => fits(node, largest, policy)),
    count,
    policy,
  );
  return group?.map((node, i) => ({ node: node.id, ...(parts[i] ?? largest) }));
}

function byRoom(
  nodes: readonly NodeRoom[],
  request: PlacementRequest,
  policy: PlacementPolicy,
  count: number,
): Share[] | undefined {
  const room = (node: NodeRoom): number => memoryRoom(node, policy);
  const group = nodes
    .filter((node) => cpuRoom(node, policy) >= 1 && room(node) >= request.stepBytes)
    .sort((a, b) => byKeys([-room(a), a.id], [-room(b), b.id]))
    .slice(0, count)
    .sort((a, b) => a.id - b.id);
  if (group.length < count) return undefined;
  const parts = divide(
    request,
    group.map((node) => cpuRoom(node, policy)),
    group.map(room),
  );
  const shares = group.map((node, i) => ({ node, part: parts[i] ?? { vcpus: 0, memoryBytes: 0 } }));
  return shares.every(({ node, part }) => fits(node, part, policy))
    ? shares.map(({ node, part }) => ({ node: node.id, ...part }))
    : undefined;
}

/** `count` nodes with the least sum of distances among them, ascending by id; ties by free memory, then ids. */
function closest(
  nodes: readonly NodeRoom[],
  count: number,
  policy: PlacementPolicy,
): readonly NodeRoom[] | undefined {
  if (nodes.length < count) return undefined;
  const apart = (a: NodeRoom, b: NodeRoom): number => a.distances.get(b.id) ?? 20;
  // All groups of a large machine are too many to try: the nearest neighbours of each node are tried.
  const groups = nodes.map((seed) => {
    const others = nodes
      .filter((node) => node !== seed)
      .sort((a, b) =>
        byKeys(
          [apart(seed, a), -memoryRoom(a, policy), a.id],
          [apart(seed, b), -memoryRoom(b, policy), b.id],
        ),
      );
    const members = [seed, ...others.slice(0, count - 1)].sort((a, b) => a.id - b.id);
    const sum = (of: (node: NodeRoom) => number): number =>
      members.reduce((total, node) => total + of(node), 0);
    const length = sum((a) => sum((b) => (a === b ? 0 : apart(a, b))));
    const room = sum((node) => memoryRoom(node, policy));
    return { members, keys: [length, -room, ...members.map(({ id }) => id)] };
  });
  return groups.sort((a, b) => byKeys(a.keys, b.keys))[0]?.members;
}

/** Parts in the ratio of the weights, whole vCPUs and whole steps of memory, at least one of each; exact in sum. */
function divide(
  { vcpus, memoryBytes, stepBytes }: PlacementRequest,
  cpuWeights: readonly number[],
  memoryWeights: readonly number[],
): { vcpus: number; memoryBytes: number }[] {
  const cpus = apportion(vcpus, cpuWeights);
  return apportion(Math.floor(memoryBytes / stepBytes), memoryWeights).map((steps, i) => ({
    vcpus: cpus[i] ?? 0,
    memoryBytes: steps * stepBytes,
  }));
}

/** Largest remainders: one for each, the rest by weight, what rounding left to the largest fractions, first come first. */
function apportion(total: number, weights: readonly number[]): number[] {
  const sum = weights.reduce((a, b) => a + b, 0);
  const rest = total - weights.length;
  const exact = weights.map((weight) => (rest * weight) / sum);
  const parts = exact.map((value) => 1 + Math.floor(value));
  const left = total - parts.reduce((a, b) => a + b, 0);
  exact
    .map((value, i) => ({ i, fraction: value - Math.floor(value) }))
    .sort((a, b) => byKeys([-a.fraction, a.i], [-b.fraction, b.i]))
    .slice(0, left)
    .forEach(({ i }) => (parts[i] = (parts[i] ?? 0) + 1));
  return parts;
}
