import { formatCpuList, parseCpuList } from '../core/cpu-list.ts';
import type { CpuResources } from '../core/vm-spec.ts';
import { applyCpuResources } from '../host/cgroup-cpu.ts';
import type { Cgroup } from '../host/cgroup-plan.ts';
import { handOver } from '../numa/ledger.ts';
import type { NumaPlan } from '../numa/numa-plan.ts';
import type { QemuProcess } from '../qemu/process.ts';
import type { MachineDeps } from './machine-request.ts';
import { findThreads } from './pin-threads.ts';
import type { MachinePlace } from './place-machine.ts';

export interface SettleParts {
  readonly place: MachinePlace;
  readonly qemu: QemuProcess;
  readonly cgroup: Cgroup;
  readonly key: string;
}

export interface SettledMachine {
  /** Applies a change of the limits; the VM stays on its CPUs as far as a new cpuset has them. */
  readonly limitCpu: (resources: CpuResources) => void;
}

/** The cpuset of a VM's place, and nothing else: what the cgroup gets before QEMU is in it. */
export function ownCpuset({ plan }: Pick<MachinePlace, 'plan'>): CpuResources {
  return {
    cpuShares: undefined,
    cpuQuota: undefined,
    cpuPeriod: undefined,
    cpusetCpus: plan.cpus === undefined ? undefined : formatCpuList(plan.cpus),
    cpusetMems: undefined,
  };
}

/**
 * Brings a QEMU that has not let its guest run yet to its place: limits, threads on their CPUs, and the books count it
 * as long as it lives, no longer as long as we do.
 */
export async function settleMachine(
  { host, native }: MachineDeps,
  { place, qemu, cgroup, key }: SettleParts,
  resources: CpuResources,
  signal: AbortSignal,
): Promise<SettledMachine> {
  const { plan, ledger } = place;
  const { pins } = plan;
  const threads =
    pins === undefined
      ? undefined
      : await findThreads({ host, native, pid: qemu.pid, pins }, qemu.qmp, signal);
  const limitCpu = (asked: CpuResources): void => {
    const narrowed = narrow(plan, asked);
    applyCpuResources(host, cgroup, narrowed);
    // The kernel puts every thread on all CPUs of a new cpuset.
    threads?.pin(cpusOf(narrowed) ?? plan.cpus);
  };
  limitCpu(resources);
  if (ledger !== undefined) await handOver(ledger, key, qemu.identity, signal);
  return { limitCpu };
}

/**
 * A cpuset from kubelet wins, but within it the VM stays on its node: kubelet gives every container that has no CPUs
 * of its own all shared ones, on all nodes.
 */
function narrow({ cpus: own }: NumaPlan, resources: CpuResources): CpuResources {
  const asked = cpusOf(resources);
  if (asked === undefined || own === undefined) return resources;
  const common = asked.filter((cpu) => own.includes(cpu));
  return common.length === 0 ? resources : { ...resources, cpusetCpus: formatCpuList(common) };
}

function cpusOf({ cpusetCpus }: CpuResources): number[] | undefined {
  return cpusetCpus === undefined ? undefined : parseCpuList(cpusetCpus);
}
