import type { Figures } from '../../control/control-service.ts';
import type { Family } from './text-format.ts';
import type { VmFacts } from './vm-facts.ts';
import { labelsOf } from './vm-labels.ts';

type GuestMemory = NonNullable<Figures['memory']>;

const FAMILIES: readonly (readonly [
  name: string,
  type: Family['type'],
  help: string,
  value: (memory: GuestMemory) => number | null | undefined,
])[] = [
  ['memory_total_bytes', 'gauge', 'Memory that the guest’s kernel manages.', ({ total }) => total],
  [
    'memory_available_bytes',
    'gauge',
    'Memory that programs of the guest could still get without swapping.',
    ({ available }) => available,
  ],
  ['memory_free_bytes', 'gauge', 'Memory of the guest that nobody uses.', ({ free }) => free],
  ['memory_caches_bytes', 'gauge', 'Memory that caches the guest’s disks.', ({ caches }) => caches],
  ['swapped_in_bytes_total', 'counter', 'What the guest has read back from its swap.', (m) => m.swappedIn],
  ['swapped_out_bytes_total', 'counter', 'What the guest has written to its swap.', (m) => m.swappedOut],
  [
    'major_faults_total',
    'counter',
    'How often a program of the guest had to wait for a page from disk.',
    ({ majorFaults }) => majorFaults,
  ],
];

/** A guest's memory as its own kernel sees it, since its boot; nothing of a guest whose balloon driver does not answer. */
export function guestMetrics(all: readonly VmFacts[]): Family[] {
  return FAMILIES.map(([name, type, help, value]) => ({
    name: `vmshim_guest_${name}`,
    type,
    help,
    samples: all.flatMap((facts) => {
      const { memory } = facts.figures ?? {};
      const told = memory === undefined || memory === null ? undefined : value(memory);
      return told === undefined || told === null ? [] : [{ labels: labelsOf(facts), value: told }];
    }),
  }));
}
