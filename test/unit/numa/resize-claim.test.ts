import t from 'tap';
import type { Claim } from '../../../src/numa/claim.ts';
import { resizedClaim } from '../../../src/numa/resize-claim.ts';
import type { Topology } from '../../../src/numa/topology.ts';

const GIB = 2 ** 30;
const node = (id: number) => ({
  id,
  cpus: [id],
  memoryBytes: 10 * GIB,
  distances: new Map<number, number>(),
  hugepages: new Map(),
});
const topology: Topology = { nodes: [node(0), node(1)] };
const policy = { memoryThreshold: 0.8 };
const on = (id: number, gib: number): Claim => ({
  shares: [{ node: id, vcpus: 2, memoryBytes: gib * GIB }],
  pageBytes: 0,
  dedicated: [],
});
const resize = (claim: Claim, others: readonly Claim[], gib: number): Claim =>
  resizedClaim(claim, others, gib * GIB, topology, policy);

void t.test('a VM grows as far as its node has memory for VMs', (t) => {
  t.same(resize(on(0, 1), [on(0, 4), on(1, 8)], 4), on(0, 4), 'to the last byte below the threshold');
  t.throws(() => resize(on(0, 1), [on(0, 4)], 5), {
    kind: 'ResourceExhausted',
    message:
      'memory cannot grow to 5Gi: the VM’s node 0 has 4Gi for it, of 8Gi for VMs; "vmctl numa" shows who has the rest, numa.memory_threshold of the config file says how much VMs may take',
  });
  t.same(resize(on(0, 6), [on(0, 4)], 5), on(0, 5), 'less is granted on a node that is too full, too');
  t.throws(() => resize(on(0, 1), [on(0, 9)], 2), { message: /has 0 for it/ }, 'others beyond the threshold');
  t.end();
});

void t.test('one that is bound to no node takes it from all', (t) => {
  const shares = [0, 1].map((id) => ({ node: id, vcpus: 1, memoryBytes: 2 * GIB }));
  const floating: Claim = { shares, pageBytes: 0, dedicated: [] };
  t.same(
    resize(floating, [on(0, 8)], 6).shares.map(({ memoryBytes }) => memoryBytes / GIB),
    [3, 3],
  );
  t.end();
});
