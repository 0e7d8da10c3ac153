import { formatCpuList } from '../core/cpu-list.ts';
import { VmError } from '../core/errors.ts';
import type { GuestRam, MemoryPolicy } from '../core/guest-ram.ts';
import { MIB } from '../core/quantity.ts';
import type { VmSpec } from '../core/vm-spec.ts';
import { type Claim, type Share, type Usage, usageOf } from './claim.ts';
import { type Cores, freeCores, takeCores } from './dedicated-cpus.ts';
import type { NodeRoom, PlacementPolicy, PlacementRequest } from './node-room.ts';
import type { NumaPlan } from './numa-plan.ts';
import { place, placeDecided, type Placement } from './placement.ts';
import type { Topology } from './topology.ts';
import { type UsableNode, usableNodes } from './usable-nodes.ts';

/** What of a VM matters for its place. */
export type NumaVm = Pick<
  VmSpec,
  'vcpus' | 'memoryBytes' | 'numa' | 'cpuPinning' | 'hugepageBytes' | 'machine'
>;

/** What the machine and its administrators allow. */
export interface NumaLimits {
  /** CPUs that kubelet chose for this VM; they win. */
  readonly kubeletCpus: readonly number[] | undefined;
  /** CPUs and memory nodes that the cgroup above has; undefined: all. */
  readonly cpus: readonly number[] | undefined;
  readonly memoryNodes: readonly number[] | undefined;
  /** CPUs kept for dedicated VMs. */
  readonly dedicatedPool: readonly number[];
  readonly policy: PlacementPolicy;
  /** Nodes of the device the VM asked to be near to. */
  readonly near: readonly number[];
}

/** A node with the CPUs of it that this VM may have. */
interface Candidate {
  readonly node: UsableNode;
  readonly cpus: readonly number[];
  readonly room: NodeRoom;
}

/**
 * Decides where a VM goes and what of the machine it takes. Pure: the same books give the same answer.
 * @param coresOf groups CPUs into physical cores; asked for dedicated VMs only.
 * @throws VmError ResourceExhausted, NotFound, FailedPrecondition or InvalidArgument with the annotation and the remedy.
 */
export function planVm(
  vm: NumaVm,
  topology: Topology,
  claims: readonly Claim[],
  limits: NumaLimits,
  coresOf: (cpus: readonly number[]) => Cores,
): NumaPlan {
  checkPinning(vm, limits);
  const usage = usageOf(claims);
  const free = (cpus: readonly number[]): Cores => freeCpus(cpus, vm, topology, usage, limits, coresOf);
  const candidates = usableNodes(topology)
    .filter(({ id }) => limits.memoryNodes?.includes(id) ?? true)
    .map((node) => candidate(node, vm, usage, limits, free))
    .filter(({ cpus }) => cpus.length > 0);
  const placement = choosePlace(candidates, vm, limits);
  return describePlan(vm, topology, limits, candidates, placement, free);
}

function checkPinning({ cpuPinning, numa }: NumaVm, { dedicatedPool, kubeletCpus }: NumaLimits): void {
  if (cpuPinning === 'shared') return;
  if (numa.kind === 'none') {
    throw new VmError(
      'InvalidArgument',
      'annotation vmshim.io/cpu-pinning is "dedicated" while vmshim.io/numa is "none"; CPUs of its own are on some node: set vmshim.io/numa to "auto"',
    );
  }
  if (dedicatedPool.length === 0 && kubeletCpus === undefined) {
    throw new VmError(
      'FailedPrecondition',
      'annotation vmshim.io/cpu-pinning is "dedicated", but this node keeps no CPUs for such VMs; set numa.dedicated_cpus in its config file or use kubelet’s static CPU manager',
    );
  }
}

function candidate(
  node: UsableNode,
  vm: NumaVm,
  usage: Usage,
  limits: NumaLimits,
  free: (cpus: readonly number[]) => Cores,
): Candidate {
  const pageBytes = vm.hugepageBytes ?? 0;
  const cpus = node.cpus.filter((cpu) => mayRunOn(cpu, vm, limits));
  const memory = {
    memoryBytes: pageBytes === 0 ? node.memoryBytes : (node.hugepageBytes.get(pageBytes) ?? 0),
    usedBytes: usage.memoryBytes(node.id, pageBytes),
  };
  const usedVcpus =
    vm.cpuPinning === 'dedicated' ? cpus.length - free(cpus).flat().length : usage.vcpus(node.id);
  const room = { id: node.id, cpus: cpus.length, usedVcpus, distances: node.distances, ...memory };
  return { node, cpus, room };
}

function mayRunOn(cpu: number, { cpuPinning }: NumaVm, limits: NumaLimits): boolean {
  if (limits.cpus?.includes(cpu) === false) return false;
  if (limits.kubeletCpus !== undefined) return limits.kubeletCpus.includes(cpu);
  return limits.dedicatedPool.includes(cpu) === (cpuPinning === 'dedicated');
}

/** Kubelet may have given a part of a core; whoever shares its other part is then kubelet's choice too. */
function freeCpus(
  cpus: readonly number[],
  { cpuPinning }: NumaVm,
  { nodes }: Topology,
  { dedicated }: Usage,
  { kubeletCpus }: NumaLimits,
  coresOf: (cpus: readonly number[]) => Cores,
): Cores {
  if (cpuPinning === 'shared') return [];
  const cores = coresOf(kubeletCpus ?? nodes.flatMap((node) => node.cpus));
  return freeCores(cores, cpus, dedicated);
}

function choosePlace(
  candidates: readonly Candidate[],
  vm: NumaVm,
  { kubeletCpus, policy, near }: NumaLimits,
): Placement {
  const rooms = candidates.map(({ room }) => room);
  const dedicated = vm.cpuPinning === 'dedicated';
  const request: PlacementRequest = {
    vcpus: vm.vcpus,
    memoryBytes: vm.memoryBytes,
    stepBytes: vm.hugepageBytes ?? MIB,
    choice: vm.numa,
    // A microvm has no tables to tell its guest of nodes.
    canSpread: vm.machine === 'q35',
    near,
  };
  const split = candidates.length === 1 || candidates.every(({ cpus }) => cpus.length < vm.vcpus);
  if (kubeletCpus !== undefined && split && vm.numa.kind !== 'none' && !dedicated) {
    return placeDecided(rooms, request);
  }
  const placement = place(rooms, request, {
    cpuThreshold: dedicated ? 1 : policy.cpuThreshold,
    // Huge pages are set aside for VMs alone.
    memoryThreshold: vm.hugepageBytes === undefined ? policy.memoryThreshold : 1,
    overflow: dedicated && policy.overflow === 'float' ? 'refuse' : policy.overflow,
  });
  if (!dedicated || placement.kind === 'bound') return placement;
  throw new VmError(
    'ResourceExhausted',
    `${vm.vcpus} vCPUs want CPUs of their own, and no node nor nodes together have them and the memory free; "vmctl numa" shows what is taken`,
  );
}

function describePlan(
  vm: NumaVm,
  topology: Topology,
  limits: NumaLimits,
  candidates: readonly Candidate[],
  placement: Placement,
  free: (cpus: readonly number[]) => Cores,
): NumaPlan {
  const { shares } = placement;
  const of = ({ node: id }: Share): Candidate => {
    const found = candidates.find(({ node }) => node.id === id);
    if (found === undefined) throw new TypeError(`node ${id} was placed on but is no candidate`);
    return found;
  };
  const dedicated =
    vm.cpuPinning === 'dedicated'
      ? shares.map((share) => takeCores(free(of(share).cpus), share.vcpus))
      : undefined;
  const taken = dedicated?.flatMap((cpus) => cpus.taken) ?? [];
  const pinned = dedicated?.flatMap((cpus) => cpus.vcpus) ?? [];
  const emulator =
    dedicated === undefined ? undefined : emulatorCpus(shares, taken, pinned, topology, limits);
  const nodeCpus = shares.map((share) => of(share).cpus);
  const cpus = emulator === undefined ? nodeCpus.flat() : [...taken, ...emulator];
  const online = topology.nodes.flatMap((node) => node.cpus);
  const restricted = cpus.length > 0 && online.some((cpu) => !cpus.includes(cpu));
  const perVcpu = shares.flatMap((share, i) =>
    Array.from({ length: Math.floor(share.vcpus) }, () => nodeCpus[i] ?? []),
  );
  return {
    claim: { shares, pageBytes: vm.hugepageBytes ?? 0, dedicated: taken },
    cpus: restricted ? [...new Set(cpus)].sort((a, b) => a - b) : undefined,
    ram: ramOf(vm, topology, placement, shares.map(of)),
    pins:
      emulator !== undefined
        ? { vcpus: pinned.map((cpu) => [cpu]), emulator }
        : placement.kind === 'bound' && shares.length > 1
          ? { vcpus: perVcpu, emulator: undefined }
          : undefined,
    ...texts(vm, placement, pinned, cpus),
  };
}

function ramOf(
  vm: NumaVm,
  topology: Topology,
  placement: Placement,
  candidates: readonly Candidate[],
): GuestRam {
  if (placement.kind === 'float') return { kind: 'whole', host: undefined };
  const { shares, memory } = placement;
  const policy = memoryPolicy(vm, memory);
  const [first, ...more] = shares;
  if (first !== undefined && more.length === 0) {
    // On a machine with one node there is nothing to bind to, unless somebody asked for it.
    const binds = topology.nodes.length > 1 || vm.numa.kind === 'node';
    return { kind: 'whole', host: binds ? { node: first.node, policy } : undefined };
  }
  return {
    kind: 'nodes',
    nodes: shares.map(({ node, vcpus, memoryBytes }) => ({ vcpus, memoryBytes, host: { node, policy } })),
    distances: distances(candidates),
  };
}

/** QEMU's own threads run beside the vCPUs: on siblings left over, else on the node's shared CPUs, else among them. */
function emulatorCpus(
  shares: readonly Share[],
  taken: readonly number[],
  pinned: readonly number[],
  topology: Topology,
  { kubeletCpus, dedicatedPool, cpus }: NumaLimits,
): readonly number[] {
  const spare = taken.filter((cpu) => !pinned.includes(cpu));
  if (spare.length > 0) return spare;
  const shared =
    kubeletCpus === undefined
      ? usableNodes(topology)
          .filter(({ id }) => shares.some(({ node }) => node === id))
          .flatMap((node) => node.cpus)
          .filter((cpu) => !dedicatedPool.includes(cpu) && (cpus?.includes(cpu) ?? true))
      : kubeletCpus.filter((cpu) => !taken.includes(cpu));
  return shared.length > 0 ? shared : taken;
}

/** Huge pages that are not there fail the start of QEMU; of another node's pool they would be missing there. */
function memoryPolicy({ hugepageBytes }: NumaVm, policy: MemoryPolicy): MemoryPolicy {
  return hugepageBytes === undefined ? policy : 'bind';
}

/** QEMU takes 10 to itself only, and at most 254 to others. */
function distances(parts: readonly Candidate[]): number[][] {
  return parts.map(({ node: from }) =>
    parts.map(({ node: to }) =>
      from.id === to.id ? 10 : Math.min(254, Math.max(11, from.distances.get(to.id) ?? 20)),
    ),
  );
}

function texts(
  vm: NumaVm,
  placement: Placement,
  pinned: readonly number[],
  cpus: readonly number[],
): Pick<NumaPlan, 'summary' | 'warning'> {
  if (placement.kind === 'float') {
    const why = {
      asked: 'as vmshim.io/numa asks',
      'no-room': 'no node has room for it',
      kubelet: 'kubelet’s CPUs are on several nodes',
    }[placement.reason];
    return {
      summary: `not bound to a node: ${why}`,
      warning:
        placement.reason === 'no-room'
          ? `the VM is not bound to a NUMA node: no node has room for ${vm.vcpus} vCPUs and its memory; "vmctl numa" shows what is taken`
          : undefined,
    };
  }
  const ids = placement.shares.map(({ node }) => node);
  const where = `${ids.length > 1 ? 'spread over nodes' : 'node'} ${formatCpuList(ids)}`;
  const how =
    pinned.length > 0 ? `vCPUs alone on CPUs ${formatCpuList(pinned)}` : `CPUs ${formatCpuList(cpus)}`;
  return {
    summary: `${where}, ${how}, memory ${memoryPolicy(vm, placement.memory) === 'bind' ? 'bound' : 'preferred'}`,
    warning: undefined,
  };
}
