import t from 'tap';
import { guestMetrics } from '../../../src/agent/metrics/guest-metrics.ts';
import { numaMetrics } from '../../../src/agent/metrics/numa-metrics.ts';
import { renderMetrics } from '../../../src/agent/metrics/text-format.ts';
import type { VmFacts } from '../../../src/agent/metrics/vm-facts.ts';
import type { NodeRow } from '../../../src/control/numa-rows.ts';

const facts = (key: string, more: object = {}): VmFacts =>
  ({
    view: { vm: { key, name: key, id: `${key}-id` } },
    pod: { namespace: 'shop', name: key },
    ...more,
  }) as unknown as VmFacts;
const labels = (name: string): string => `namespace="shop",pod="${name}",vm="${name}",id="${name}-id"`;
const values = (text: string): string[] => text.split('\n').filter((line) => line !== '' && line[0] !== '#');

void t.test('what the books say of nodes and VMs', (t) => {
  const row: NodeRow = {
    node: 1,
    cpus: '0-3',
    vcpus: { used: 3, limit: 16 },
    memoryBytes: { used: 300, limit: 1000 },
    hugepages: [{ pageBytes: 2048, usedBytes: 4096, limitBytes: 8192 }],
    dedicated: { cpus: '', used: '' },
    vms: ['a'],
  };
  const shares = [{ node: 1, vcpus: 3, memoryBytes: 300 }];
  const families = numaMetrics([row], [{ key: 'a', shares }], [facts('a'), facts('b')]);
  t.same(values(renderMetrics(families)), [
    'vmshim_numa_node_memory_claimed_bytes{node="1"} 300',
    'vmshim_numa_node_memory_limit_bytes{node="1"} 1000',
    'vmshim_numa_node_hugepages_claimed_bytes{node="1",page_bytes="2048"} 4096',
    'vmshim_numa_node_hugepages_limit_bytes{node="1",page_bytes="2048"} 8192',
    'vmshim_numa_node_vcpus_claimed{node="1"} 3',
    'vmshim_numa_node_vcpus_limit{node="1"} 16',
    `vmshim_vm_numa_memory_bytes{${labels('a')},node="1"} 300`,
    `vmshim_vm_numa_vcpus{${labels('a')},node="1"} 3`,
  ]);
  t.end();
});

void t.test('a guest that tells nothing, or not all, has no such figures', (t) => {
  const all = [
    facts('a', { figures: { memory: { total: 100, available: 0 } } }),
    facts('b', { figures: { memory: null } }),
    facts('c'),
  ];
  t.same(values(renderMetrics(guestMetrics(all))), [
    `vmshim_guest_memory_total_bytes{${labels('a')}} 100`,
    `vmshim_guest_memory_available_bytes{${labels('a')}} 0`,
  ]);
  t.end();
});
