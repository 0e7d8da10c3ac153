import { parseCpuList } from '../core/cpu-list.ts';
import type { Config } from '../core/config.ts';
import type { VmSpec } from '../core/vm-spec.ts';
import { readCpusetBounds } from '../host/cgroup-cpuset.ts';
import type { Cgroup } from '../host/cgroup-plan.ts';
import type { Host } from '../host/host.ts';
import { bootId, readIdentity } from '../host/process-identity.ts';
import { readLinkNode } from '../numa/device-node.ts';
import { enter, type Ledger } from '../numa/ledger.ts';
import type { NumaPlan } from '../numa/numa-plan.ts';
import { type NumaLimits, planVm } from '../numa/plan-vm.ts';
import { readCores, readNodeIds, readTopology } from '../numa/topology.ts';
import type { MachineDeps } from './machine-request.ts';
import { numaBooks } from './numa-books.ts';
import type { NumaRecord } from './record.ts';

/** A VM's place, and the books it is entered in: none on a machine with nothing to choose. */
export interface MachinePlace {
  readonly plan: NumaPlan;
  /** For the VM's record. */
  readonly numa: NumaRecord;
  readonly ledger: Ledger | undefined;
}

export interface PlaceRequest {
  readonly spec: VmSpec;
  readonly config: Config;
  readonly key: string;
  readonly cgroup: Cgroup;
  /** Writes the claim into the VM's record before it is in the books; not called where there are none. */
  readonly record: (numa: NumaRecord) => void;
}

/**
 * Finds the VM's place among the host's memory nodes and CPUs and enters it in the node's books. On a machine with one
 * node, where no CPUs are set aside, that is one read of sysfs. vCPUs that may be plugged later count from the start: its
 * node must have room for them then, too.
 * @throws VmError as planVm does; Canceled or DeadlineExceeded by `signal`.
 */
export async function placeMachine(
  { host, native, log }: MachineDeps,
  request: PlaceRequest,
  signal: AbortSignal,
): Promise<MachinePlace> {
  const { spec, config, key, record } = request;
  const ids = readNodeIds(host);
  if (ids.length === 1 && !choosesCpus(spec, config)) {
    const plan = wholeHost(spec, ids[0] ?? 0);
    return { plan, numa: { ledger: undefined, claim: plan.claim }, ledger: undefined };
  }
  const warn = (sentence: string): void => log.warn(sentence);
  const ledger: Ledger = { ...numaBooks(host, config.stateDir, warn), native };
  const topology = readTopology(host);
  const limits = readLimits(host, request);
  const shim = readIdentity(host, process.pid);
  const owner = { pid: process.pid, startTime: shim?.startTime ?? -1, bootId: bootId(host) };
  const plan = await enter(
    ledger,
    { key, name: spec.name, owner },
    (claims) => {
      const result = planVm({ ...spec, vcpus: spec.maxVcpus }, topology, claims, limits, (cpus) =>
        readCores(host, cpus),
      );
      record({ ledger: ledger.path, claim: result.claim });
      return { claim: result.claim, result };
    },
    signal,
  );
  return { plan, numa: { ledger: ledger.path, claim: plan.claim }, ledger };
}

function choosesCpus({ cpuPinning, numa }: VmSpec, config: Config): boolean {
  if (cpuPinning === 'dedicated' || config.numa.dedicatedCpus.length > 0) return true;
  // What one node cannot give must be refused with the reason.
  return numa.kind === 'node' || numa.kind === 'spread';
}

function wholeHost(spec: VmSpec, node: number): NumaPlan {
  const { maxVcpus: vcpus, memoryBytes, hugepageBytes = 0 } = spec;
  return {
    claim: { shares: [{ node, vcpus, memoryBytes }], pageBytes: hugepageBytes, dedicated: [] },
    cpus: undefined,
    ram: { kind: 'whole', host: undefined },
    pins: undefined,
    summary: 'the host has one node',
    warning: undefined,
  };
}

function readLimits(host: Host, { spec, config, cgroup }: PlaceRequest): NumaLimits {
  const { cpusetCpus, cpusetMems } = spec.resources;
  const above = readCpusetBounds(host, cgroup);
  const node = spec.numa.kind === 'near' ? readLinkNode(host, spec.numa.link) : undefined;
  return {
    kubeletCpus: parseCpuList(cpusetCpus ?? '-'),
    cpus: above.cpus,
    memoryNodes: parseCpuList(cpusetMems ?? '-') ?? above.memoryNodes,
    dedicatedPool: config.numa.dedicatedCpus,
    policy: config.numa,
    near: node === undefined ? [] : [node],
  };
}
