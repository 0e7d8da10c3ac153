import { distance, type NumaNode, type Topology } from './topology.ts';

/** A node that VMs can be placed on: it has memory, and CPUs of its own or of neighbours without memory. */
export interface UsableNode {
  readonly id: number;
  readonly cpus: readonly number[];
  /** Ordinary memory: all but the huge pages. */
  readonly memoryBytes: number;
  readonly distances: ReadonlyMap<number, number>;
  /** All huge pages by size, in bytes. */
  readonly hugepageBytes: ReadonlyMap<number, number>;
}

/**
 * The nodes for VMs, ascending. CPUs of a node without memory go to the nearest node that has some, where their
 * allocations end up anyway. Memory without CPUs (CXL, HBM) is faster or slower than the rest, so nobody gets it
 * unasked.
 */
export function usableNodes({ nodes }: Topology): UsableNode[] {
  const homes = nodes.filter(({ cpus, memoryBytes }) => cpus.length > 0 && memoryBytes > 0);
  const guests = nodes.filter(({ cpus, memoryBytes }) => cpus.length > 0 && memoryBytes === 0);
  return homes.map((home) => ({
    id: home.id,
    cpus: [home, ...guests.filter((guest) => nearest(guest, homes) === home)]
      .flatMap(({ cpus }) => cpus)
      .sort((a, b) => a - b),
    memoryBytes: home.memoryBytes - [...pageBytes(home).values()].reduce((a, b) => a + b, 0),
    distances: home.distances,
    hugepageBytes: pageBytes(home),
  }));
}

function nearest(node: NumaNode, homes: readonly NumaNode[]): NumaNode | undefined {
  return homes.reduce<NumaNode | undefined>(
    (best, home) => (best === undefined || distance(node, home) < distance(node, best) ? home : best),
    undefined,
  );
}

function pageBytes({ hugepages }: NumaNode): ReadonlyMap<number, number> {
  return new Map([...hugepages].map(([size, { total }]) => [size, size * total]));
}
