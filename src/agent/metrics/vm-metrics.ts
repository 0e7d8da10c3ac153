import type { VmStatus } from '../../control/control-service.ts';
import { POWER_STATES, type VmView } from '../vms/vm-view.ts';
import type { Family, Sample } from './text-format.ts';
import type { VmFacts } from './vm-facts.ts';
import { type Labels, labelsOf } from './vm-labels.ts';

const NANO = 1e9;

/** The families of what was measured. Memory in bytes, time in seconds, counters since the VM's start. */
export function vmMetrics(all: readonly VmFacts[]): Family[] {
  const gauge = (name: string, help: string, value: (facts: VmFacts) => number | undefined): Family =>
    family(all, 'gauge', name, help, value);
  const counter = (name: string, help: string, value: (facts: VmFacts) => number | undefined): Family =>
    family(all, 'counter', name, help, value);
  return [
    {
      name: 'vmshim_vm_info',
      help: 'What the VM is made of; always 1.',
      type: 'gauge',
      samples: all.flatMap(({ status, ...facts }): Sample[] =>
        status === undefined ? [] : [{ labels: { ...labelsOf(facts), ...describe(status) }, value: 1 }],
      ),
    },
    {
      name: 'vmshim_vm_state',
      help: '1 for what the VM is doing, 0 for everything else; unknown when its shim does not answer, ended when nothing of it runs.',
      type: 'gauge',
      samples: all.flatMap((facts) => stateSamples(labelsOf(facts), facts.view)),
    },
    gauge('vmshim_vm_vcpus', 'Virtual CPUs.', ({ status }) => status?.vcpus ?? undefined),
    gauge('vmshim_vm_ram_bytes', 'The guest’s RAM.', ({ status }) => status?.memoryBytes ?? undefined),
    gauge(
      'vmshim_vm_max_ram_bytes',
      'RAM that the guest can be given while it runs.',
      ({ status }) => status?.maxMemoryBytes ?? undefined,
    ),
    gauge('vmshim_vm_start_time_seconds', 'When the guest was started, since the epoch.', ({ status }) =>
      status?.startedAtMs === undefined || status.startedAtMs === null || status.startedAtMs === 0
        ? undefined
        : status.startedAtMs / 1000,
    ),
    counter(
      'vmshim_vm_cpu_seconds_total',
      'CPU time of the VM: guest, QEMU and its helpers.',
      ({ cgroup }) => (cgroup.cpu === undefined ? undefined : cgroup.cpu.usage / NANO),
    ),
    gauge(
      'vmshim_vm_memory_bytes',
      'Memory charged to the VM’s cgroup.',
      ({ cgroup }) => cgroup.memory?.usage,
    ),
    gauge(
      'vmshim_vm_guest_memory_bytes',
      'Guest RAM that the node has given it so far: the shared memory of its cgroup. Huge pages are not counted.',
      ({ cgroup }) => cgroup.memory?.shmem,
    ),
    gauge(
      'vmshim_vm_overhead_bytes',
      'What the VM costs beside its guest’s RAM: the cgroup’s memory without guest RAM and without cache that the kernel can take back, and the shim’s own memory. Compare it with the RuntimeClass’s overhead.',
      overhead,
    ),
    gauge(
      'vmshim_vm_shim_memory_bytes',
      'Memory that the VM’s shim shares with nobody.',
      ({ shimBytes }) => shimBytes,
    ),
    counter(
      'vmshim_vm_oom_kills_total',
      'Processes of the VM’s cgroup that the kernel killed for want of memory.',
      ({ cgroup }) => cgroup.memory?.oomKills,
    ),
    counter(
      'vmshim_vm_block_read_bytes_total',
      'Read from the node’s block devices.',
      ({ block }) => block?.readBytes,
    ),
    counter(
      'vmshim_vm_block_written_bytes_total',
      'Written to the node’s block devices.',
      ({ block }) => block?.writtenBytes,
    ),
    counter('vmshim_vm_block_reads_total', 'Reads of the node’s block devices.', ({ block }) => block?.reads),
    counter(
      'vmshim_vm_block_writes_total',
      'Writes to the node’s block devices.',
      ({ block }) => block?.writes,
    ),
    counter(
      'vmshim_vm_restarts_total',
      'Restarts of the pod’s container by kubelet.',
      ({ pod }) => pod?.restarts,
    ),
    ...networkFamilies(all),
  ];
}

function family(
  all: readonly VmFacts[],
  type: Family['type'],
  name: string,
  help: string,
  value: (facts: VmFacts) => number | undefined,
): Family {
  const samples = all.flatMap((facts): Sample[] => {
    const measured = value(facts);
    return measured === undefined ? [] : [{ labels: labelsOf(facts), value: measured }];
  });
  return { name, help, type, samples };
}

function overhead({ cgroup, shimBytes = 0 }: VmFacts): number | undefined {
  if (cgroup.memory === undefined) return undefined;
  const { usage, shmem, inactiveFile } = cgroup.memory;
  return Math.max(0, usage - shmem - inactiveFile) + shimBytes;
}

function describe(status: VmStatus): Labels {
  return {
    machine: status.machine ?? '',
    accel: status.accel ?? '',
    firmware: status.firmware ?? '',
    network: status.network ?? '',
    qemu_version: status.qemuVersion ?? '',
    shim_version: status.shimVersion ?? '',
  };
}

function stateSamples(labels: Labels, view: VmView): Sample[] {
  const now = view.t === 'answers' ? view.powerState : view.t === 'ended' ? 'ended' : 'unknown';
  return [...POWER_STATES, 'ended', 'unknown'].map((state) => ({
    labels: { ...labels, state },
    value: state === now ? 1 : 0,
  }));
}

type Traffic = NonNullable<VmStatus['traffic']>[number];

function networkFamilies(all: readonly VmFacts[]): Family[] {
  const families: readonly (readonly [string, string, (nic: Traffic) => number | null | undefined])[] = [
    ['receive_bytes', 'Bytes that the guest has received.', (nic) => nic.rxBytes],
    ['receive_packets', 'Packets that the guest has received.', (nic) => nic.rxPackets],
    ['receive_errors', 'Packets for the guest that were damaged.', (nic) => nic.rxErrors],
    ['receive_dropped', 'Packets for the guest that were dropped.', (nic) => nic.rxDropped],
    ['transmit_bytes', 'Bytes that the guest has sent.', (nic) => nic.txBytes],
    ['transmit_packets', 'Packets that the guest has sent.', (nic) => nic.txPackets],
    ['transmit_errors', 'Packets of the guest that were damaged.', (nic) => nic.txErrors],
    ['transmit_dropped', 'Packets of the guest that were dropped.', (nic) => nic.txDropped],
  ];
  return families.map(([name, help, value]) => ({
    name: `vmshim_vm_network_${name}_total`,
    help,
    type: 'counter',
    samples: all.flatMap((facts) =>
      (facts.status?.traffic ?? []).map((nic) => ({
        labels: { ...labelsOf(facts), interface: nic.name ?? '' },
        value: value(nic) ?? 0,
      })),
    ),
  }));
}
