import type { NumaChoice, NumaOverflow } from '../core/vm-spec.ts';
import type { Share } from './claim.ts';

/** A memory node as placement sees it: what it has for VMs of this kind, and what VMs have of it already. */
export interface NodeRoom {
  readonly id: number;
  /** How many CPUs VMs may run on here. */
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly usedVcpus: number;
  readonly usedBytes: number;
  /** ACPI SLIT to the other nodes by id. */
  readonly distances: ReadonlyMap<number, number>;
}

export interface PlacementRequest {
  readonly vcpus: number;
  readonly memoryBytes: number;
  /** RAM is divided in multiples of this: huge pages, else 1 MiB. */
  readonly stepBytes: number;
  readonly choice: NumaChoice;
  /** Whether this kind of machine can have a NUMA topology of its own. */
  readonly canSpread: boolean;
  /** Nodes of devices it shall be close to; none: no such wish. */
  readonly near: readonly number[];
}

export interface PlacementPolicy {
  /** vCPUs per CPU; above 1 CPUs are oversubscribed. */
  readonly cpuThreshold: number;
  /** Part of a node's memory that VMs may take. */
  readonly memoryThreshold: number;
  /** What becomes of a VM that fits no single node. */
  readonly overflow: NumaOverflow;
}

/** Whether a node can take this share within the thresholds. */
export function fits(
  node: NodeRoom,
  share: Pick<Share, 'vcpus' | 'memoryBytes'>,
  policy: PlacementPolicy,
): boolean {
  return (
    share.vcpus <= node.cpus &&
    node.usedVcpus + share.vcpus <= policy.cpuThreshold * node.cpus &&
    node.usedBytes + share.memoryBytes <= policy.memoryThreshold * node.memoryBytes
  );
}

/** Memory the thresholds leave. */
export function memoryRoom(node: NodeRoom, policy: PlacementPolicy): number {
  return policy.memoryThreshold * node.memoryBytes - node.usedBytes;
}

/** vCPUs the thresholds leave. */
export function cpuRoom(node: NodeRoom, policy: PlacementPolicy): number {
  return Math.min(node.cpus, policy.cpuThreshold * node.cpus - node.usedVcpus);
}

/** Negative when `a` comes first: a comparison by several keys in their order. */
export function byKeys(a: readonly number[], b: readonly number[]): number {
  for (const [i, key] of a.entries()) {
    const difference = key - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
