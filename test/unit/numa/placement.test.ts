import fc from 'fast-check';
import t from 'tap';
import type { NumaChoice } from '../../../src/core/vm-spec.ts';
import { fits, type NodeRoom, type PlacementPolicy } from '../../../src/numa/node-room.ts';
import { place, placeDecided, type Placement } from '../../../src/numa/placement.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const auto: NumaChoice = { kind: 'auto' };
const policy: PlacementPolicy = { cpuThreshold: 2, memoryThreshold: 0.9, overflow: 'spread' };

function room(id: number, more: Partial<NodeRoom> = {}): NodeRoom {
  return { id, cpus: 8, memoryBytes: 16 * GIB, usedVcpus: 0, usedBytes: 0, distances: new Map(), ...more };
}

function vm(vcpus: number, memoryBytes: number, choice: NumaChoice = auto, near: readonly number[] = []) {
  return { vcpus, memoryBytes, stepBytes: MIB, choice, canSpread: true, near };
}

function nodesOf(placement: Placement): number[] {
  return placement.kind === 'bound' ? placement.shares.map(({ node }) => node) : [];
}

void t.test('the node whose shares of CPU and memory are most alike afterwards', (t) => {
  // Node 0 has used much CPU, node 1 much memory: a VM of much memory belongs to node 0, one of many CPUs to node 1.
  const nodes = [
    room(0, { usedVcpus: 10, usedBytes: 1 * GIB }),
    room(1, { usedVcpus: 1, usedBytes: 9 * GIB }),
  ];
  t.same(nodesOf(place(nodes, vm(1, 4 * GIB), policy)), [0]);
  t.same(nodesOf(place(nodes, vm(6, 1 * GIB), policy)), [1]);
  t.end();
});

void t.test('ties go to the node with most memory free, then to the lowest id', (t) => {
  t.same(nodesOf(place([room(1), room(0)], vm(2, 4 * GIB), policy)), [0]);
  // Both stay balanced, and node 1 has twice as much of everything.
  const twice = room(1, { cpus: 16, memoryBytes: 32 * GIB });
  const balanced = vm(4, 3.6 * GIB);
  t.same(nodesOf(place([room(0), twice], balanced, policy)), [1]);
  t.end();
});

void t.test(
  'CPUs are oversubscribed up to the threshold, memory never; no VM oversubscribes by itself',
  (t) => {
    const full = [room(0, { usedVcpus: 14 })];
    t.same(nodesOf(place(full, vm(2, GIB), policy)), [0]);
    t.equal(place(full, vm(3, GIB), policy).kind, 'float');
    t.equal(place([room(0)], vm(9, GIB), policy).kind, 'float', '9 vCPUs on 8 CPUs');
    t.equal(place([room(0)], vm(1, 15 * GIB), policy).kind, 'float', 'more than 0.9 of the memory');
    t.end();
  },
);

void t.test('memory is bound as long as the books can be trusted, preferred near the limit', (t) => {
  t.match(place([room(0)], vm(1, 12 * GIB), policy), { memory: 'bind' });
  t.match(place([room(0)], vm(1, 14 * GIB), policy), { memory: 'preferred' });
  t.end();
});

void t.test('near to a device first', (t) => {
  const distances = (self: number) => new Map([0, 1, 2].map((to) => [to, 10 + 10 * Math.abs(to - self)]));
  const nodes = [0, 1, 2].map((id) => room(id, { distances: distances(id) }));
  t.same(nodesOf(place(nodes, vm(1, GIB, auto, [2]), policy)), [2]);
  const full = nodes.map((node) => (node.id === 2 ? { ...node, usedVcpus: 16 } : node));
  t.same(nodesOf(place(full, vm(1, GIB, auto, [2]), policy)), [1], 'the next nearest');
  t.end();
});

void t.test('what fits no node is spread over the fewest, floats or is refused', (t) => {
  const nodes = [0, 1, 2, 3].map((id) => room(id));
  t.match(place(nodes, vm(12, 20 * GIB), policy), {
    kind: 'bound',
    shares: [
      { node: 0, vcpus: 6, memoryBytes: 10 * GIB },
      { node: 1, vcpus: 6, memoryBytes: 10 * GIB },
    ],
  });
  t.same(nodesOf(place(nodes, vm(20, 3 * GIB), policy)), [0, 1, 2], 'three, for the CPUs');
  t.match(place(nodes, vm(12, GIB), { ...policy, overflow: 'float' }), { kind: 'float', reason: 'no-room' });
  t.throws(() => place(nodes, vm(12, GIB), { ...policy, overflow: 'refuse' }), {
    name: 'VmError',
    kind: 'ResourceExhausted',
    message: /12 vCPUs and 1Gi does not fit on any node/,
  });
  t.match(place(nodes, { ...vm(12, GIB), canSpread: false }, policy), { kind: 'float' }, 'a microvm');
  t.match(place(nodes, vm(1, 20 * GIB), policy), { kind: 'float' }, 'one vCPU cannot be on two nodes');
  t.end();
});

void t.test('uneven nodes share by what they have left; close ones are taken first', (t) => {
  const uneven = [room(0, { cpus: 2, memoryBytes: 12 * GIB }), room(1, { cpus: 1, memoryBytes: 6 * GIB })];
  t.match(place(uneven, vm(3, 12 * GIB), policy), {
    shares: [
      { node: 0, vcpus: 2 },
      { node: 1, vcpus: 1 },
    ],
  });
  const far = (self: number) => new Map([0, 1, 2, 3].map((to) => [to, to % 2 === self % 2 ? 12 : 32]));
  const nodes = [0, 1, 2, 3].map((id) => room(id, { distances: far(id), usedVcpus: id === 0 ? 16 : 0 }));
  t.same(nodesOf(place(nodes, vm(12, GIB), policy)), [1, 3]);
  t.end();
});

void t.test('a chosen node, spread and none', (t) => {
  const nodes = [room(0), room(1, { usedVcpus: 16 })];
  t.same(nodesOf(place(nodes, vm(1, GIB, { kind: 'node', node: 0 }), policy)), [0]);
  t.throws(() => place(nodes, vm(1, GIB, { kind: 'node', node: 1 }), policy), {
    name: 'VmError',
    kind: 'ResourceExhausted',
    message: /does not fit on node 1; choose another/,
  });
  t.throws(() => place(nodes, vm(1, GIB, { kind: 'node', node: 7 }), policy), {
    name: 'VmError',
    kind: 'NotFound',
    message: /is "7", but VMs can be placed on nodes 0, 1 only/,
  });
  t.same(nodesOf(place([room(0), room(1)], vm(2, GIB, { kind: 'spread' }), policy)), [0, 1]);
  t.throws(() => place([room(0), room(1)], vm(1, GIB, { kind: 'spread' }), policy), {
    name: 'VmError',
    kind: 'ResourceExhausted',
    message: /each has to take one vCPU/,
  });
  const { kind, shares } = place(nodes, vm(4, 4 * GIB, { kind: 'none' }), policy);
  t.equal(kind, 'float');
  t.same(shares, [
    { node: 0, vcpus: 2, memoryBytes: 2 * GIB },
    { node: 1, vcpus: 2, memoryBytes: 2 * GIB },
  ]);
  t.end();
});

void t.test('kubelet’s CPUs are not asked about thresholds', (t) => {
  const full = room(1, { cpus: 4, usedVcpus: 100 });
  t.same(nodesOf(placeDecided([full], vm(4, GIB))), [1]);
  t.same(nodesOf(placeDecided([room(0, { cpus: 2, usedVcpus: 100 }), full], vm(4, GIB))), [0, 1]);
  t.match(placeDecided([room(0), room(1)], { ...vm(4, GIB), canSpread: false }), { reason: 'kubelet' });
  t.end();
});

const rooms = fc.uniqueArray(
  fc.record({
    id: fc.nat(20),
    cpus: fc.integer({ min: 1, max: 64 }),
    memoryBytes: fc.integer({ min: 1, max: 256 }).map((n) => n * GIB),
    usedVcpus: fc.nat(100),
    usedBytes: fc.nat(128).map((n) => n * GIB),
    distances: fc.constant(new Map<number, number>()),
  }),
  { minLength: 1, maxLength: 8, selector: ({ id }) => id },
);
const requests = fc
  .record({
    vcpus: fc.integer({ min: 1, max: 128 }),
    mib: fc.integer({ min: 64, max: 300 * 1024 }),
    canSpread: fc.boolean(),
  })
  .map(({ vcpus, mib, canSpread }) => ({ ...vm(vcpus, mib * MIB), canSpread }));
const policies = fc.record({
  cpuThreshold: fc.double({ min: 0.5, max: 8, noNaN: true }),
  memoryThreshold: fc.double({ min: 0.1, max: 1, noNaN: true }),
  overflow: fc.constantFrom('spread' as const, 'float' as const),
});

void t.test(
  'no placement exceeds a threshold, every vCPU and byte is placed once, order does not matter',
  (t) => {
    fc.assert(
      fc.property(rooms, requests, policies, (nodes, request, policy) => {
        const placement = place(nodes, request, policy);
        if (
          JSON.stringify(placement.shares) !==
          JSON.stringify(place(nodes.toReversed(), request, policy).shares)
        ) {
          return placement.kind === 'float';
        }
        const fitting = nodes.filter((node) => fits(node, request, policy));
        if (placement.kind === 'float') return fitting.length === 0;
        const { shares } = placement;
        const sum = (key: 'vcpus' | 'memoryBytes'): number =>
          shares.reduce((total, one) => total + one[key], 0);
        return (
          sum('vcpus') === request.vcpus &&
          sum('memoryBytes') === request.memoryBytes &&
          new Set(shares.map(({ node }) => node)).size === shares.length &&
          shares.every(
            (share) => Number.isInteger(share.vcpus) && share.vcpus > 0 && share.memoryBytes > 0,
          ) &&
          shares.every((share) =>
            fits(
              nodes.find(({ id }) => id === share.node)!,
              share,
              policy,
            ),
          ) &&
          (shares.length === 1) === fitting.length > 0
        );
      }),
      { numRuns: 3000 },
    );
    t.end();
  },
);

void t.test('no other node would have been better balanced', (t) => {
  fc.assert(
    fc.property(rooms, requests, policies, (nodes, request, policy) => {
      const placement = place(nodes, request, policy);
      if (placement.kind === 'float' || placement.shares.length > 1) return true;
      const imbalance = (node: NodeRoom): number =>
        Math.abs(
          (node.usedVcpus + request.vcpus) / (policy.cpuThreshold * node.cpus) -
            (node.usedBytes + request.memoryBytes) / (policy.memoryThreshold * node.memoryBytes),
        );
      const chosen = nodes.find(({ id }) => id === placement.shares[0]?.node)!;
      return nodes
        .filter((node) => fits(node, request, policy))
        .every((node) => imbalance(chosen) <= imbalance(node));
    }),
    { numRuns: 3000 },
  );
  t.end();
});
