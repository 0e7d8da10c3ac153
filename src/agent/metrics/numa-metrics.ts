import type { NodeRow, VmShares } from '../../control/numa-rows.ts';
import type { Family, Sample } from './text-format.ts';
import type { VmFacts } from './vm-facts.ts';
import { labelsOf } from './vm-labels.ts';

/** What the books say of memory nodes: what VMs have of each, what they may have, and what each VM has. */
export function numaMetrics(
  rows: readonly NodeRow[],
  booked: readonly VmShares[],
  vms: readonly VmFacts[],
): Family[] {
  const ofNodes = (name: string, help: string, value: (row: NodeRow) => number): Family =>
    gauge(
      `vmshim_numa_node_${name}`,
      help,
      rows.map((row) => ({ labels: { node: String(row.node) }, value: value(row) })),
    );
  const ofPages = (name: string, help: string, key: 'usedBytes' | 'limitBytes'): Family =>
    gauge(
      `vmshim_numa_node_${name}`,
      help,
      rows.flatMap(({ node, hugepages }) =>
        hugepages.map((pool) => ({
          labels: { node: String(node), page_bytes: String(pool.pageBytes) },
          value: pool[key],
        })),
      ),
    );
  const ofVms = (name: string, help: string, key: 'memoryBytes' | 'vcpus'): Family =>
    gauge(
      `vmshim_vm_numa_${name}`,
      help,
      vms.flatMap((facts) => {
        const shares = booked.find(({ key }) => key === facts.view.vm.key)?.shares ?? [];
        return shares.map((share) => ({
          labels: { ...labelsOf(facts), node: String(share.node) },
          value: share[key],
        }));
      }),
    );
  return [
    ofNodes('memory_claimed_bytes', 'RAM that VMs have of the node.', (row) => row.memoryBytes.used),
    ofNodes('memory_limit_bytes', 'RAM that VMs may have of the node.', (row) => row.memoryBytes.limit),
    ofPages('hugepages_claimed_bytes', 'RAM in huge pages that VMs have of the node.', 'usedBytes'),
    ofPages('hugepages_limit_bytes', 'RAM in huge pages that the node has.', 'limitBytes'),
    ofNodes('vcpus_claimed', 'vCPUs of VMs that share the node’s CPUs.', (row) => row.vcpus.used),
    ofNodes('vcpus_limit', 'vCPUs that may share the node’s CPUs.', (row) => row.vcpus.limit),
    ofVms(
      'memory_bytes',
      'RAM that the VM has of the node; of one that is bound to none, its part.',
      'memoryBytes',
    ),
    ofVms('vcpus', 'vCPUs that the node counts for the VM, those included that may be plugged.', 'vcpus'),
  ];
}

function gauge(name: string, help: string, samples: readonly Sample[]): Family {
  return { name, help, type: 'gauge', samples };
}
