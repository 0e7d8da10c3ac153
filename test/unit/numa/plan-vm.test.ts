import t, { type Test } from 'tap';
import { formatCpuList, parseCpuList } from '../../../src/core/cpu-list.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import type { Claim } from '../../../src/numa/claim.ts';
import type { NumaPlan } from '../../../src/numa/numa-plan.ts';
import { type NumaLimits, type NumaVm, planVm } from '../../../src/numa/plan-vm.ts';
import { readCores, readTopology } from '../../../src/numa/topology.ts';
import { machineTree, range } from '../../support/numa-machine.ts';

const host = new LinuxHost();
const GIB = 2 ** 30;
const limits: NumaLimits = {
  kubeletCpus: undefined,
  cpus: undefined,
  memoryNodes: undefined,
  dedicatedPool: [],
  policy: { cpuThreshold: 4, memoryThreshold: 0.9, overflow: 'spread' },
  near: [],
};
const base: NumaVm = {
  vcpus: 2,
  memoryBytes: GIB,
  numa: { kind: 'auto' },
  cpuPinning: 'shared',
  hugepageBytes: undefined,
  machine: 'q35',
};

/** Two sockets of 8 cores with two threads each; siblings are 16 apart. */
function server(t: Test) {
  const root = machineTree(t, {
    nodes: [
      { cpus: [...range(0, 7), ...range(16, 23)], memoryMib: 32_768, hugepages: 1024 },
      { cpus: [...range(8, 15), ...range(24, 31)], memoryMib: 32_768 },
    ],
    cores: range(0, 15).map((cpu) => [cpu, cpu + 16]),
  });
  const topology = readTopology(host, root);
  return (vm: Partial<NumaVm>, claims: readonly Claim[] = [], change: Partial<NumaLimits> = {}): NumaPlan =>
    planVm({ ...base, ...vm }, topology, claims, { ...limits, ...change }, (cpus) =>
      readCores(host, cpus, root),
    );
}

void t.test('on one node: all its CPUs, its memory bound, no thread pinned', (t) => {
  const plan = server(t)({});
  t.equal(formatCpuList(plan.cpus ?? []), '8-15,24-31', 'the node with more ordinary memory');
  t.same(plan.ram, { kind: 'whole', host: { node: 1, policy: 'bind' } });
  t.equal(plan.pins, undefined);
  t.equal(plan.summary, 'node 1, CPUs 8-15,24-31, memory bound');
  t.same(plan.claim, { shares: [{ node: 1, vcpus: 2, memoryBytes: GIB }], pageBytes: 0, dedicated: [] });
  t.end();
});

void t.test('claims of others count', (t) => {
  const others: Claim = {
    shares: [{ node: 1, vcpus: 2, memoryBytes: 20 * GIB }],
    pageBytes: 0,
    dedicated: [],
  };
  t.match(server(t)({ memoryBytes: 10 * GIB }, [others]).claim.shares, [{ node: 0 }]);
  t.end();
});

void t.test('spread: a guest with nodes, every vCPU on the CPUs of its own', (t) => {
  const plan = server(t)({ vcpus: 20, memoryBytes: 40 * GIB });
  t.match(plan.ram, {
    kind: 'nodes',
    nodes: [
      { vcpus: 10, memoryBytes: 20 * GIB, host: { node: 0, policy: 'bind' } },
      { vcpus: 10, memoryBytes: 20 * GIB, host: { node: 1, policy: 'bind' } },
    ],
    distances: [
      [10, 21],
      [21, 10],
    ],
  });
  t.equal(plan.pins?.vcpus.length, 20);
  t.equal(formatCpuList(plan.pins?.vcpus[9] ?? []), '0-7,16-23');
  t.equal(formatCpuList(plan.pins?.vcpus[10] ?? []), '8-15,24-31');
  t.equal(plan.cpus, undefined, 'all CPUs of the host');
  t.end();
});

void t.test('dedicated: whole cores of the pool, nobody else’s, the odd sibling for the emulator', (t) => {
  const plan = server(t);
  const change = { dedicatedPool: parseCpuList('4-7,20-23,12-15,28-31') ?? [] };
  const three = plan({ vcpus: 3, cpuPinning: 'dedicated' }, [], change);
  t.same(three.claim.dedicated.length, 4);
  const [first] = three.pins?.vcpus ?? [];
  t.equal(three.pins?.vcpus.flat().length, 3);
  t.equal(three.pins?.emulator?.length, 1, 'the sibling left over');
  t.same(
    three.cpus,
    [...three.pins!.vcpus.flat(), ...three.pins!.emulator!].sort((a, b) => a - b),
  );
  t.ok(change.dedicatedPool.includes(first![0]!));

  const claims: Claim[] = [];
  for (let i = 0; i < 4; i++) claims.push(plan({ vcpus: 4, cpuPinning: 'dedicated' }, claims, change).claim);
  const all = claims.flatMap(({ dedicated }) => dedicated);
  t.equal(new Set(all).size, 16, 'no CPU twice');
  t.throws(() => plan({ vcpus: 1, cpuPinning: 'dedicated' }, claims, change), {
    name: 'VmError',
    kind: 'ResourceExhausted',
    message: /1 vCPUs want CPUs of their own/,
  });

  const even = plan({ vcpus: 4, cpuPinning: 'dedicated' }, [], change);
  t.notOk(
    even.pins?.emulator?.some((cpu) => change.dedicatedPool.includes(cpu)),
    'on the node’s shared CPUs',
  );
  const shared = plan({}, [], change);
  t.notOk(
    shared.cpus?.some((cpu) => change.dedicatedPool.includes(cpu)),
    'others get none of the pool',
  );
  t.throws(() => plan({ cpuPinning: 'dedicated' }), { message: /set numa.dedicated_cpus/ });
  t.throws(() => plan({ cpuPinning: 'dedicated', numa: { kind: 'none' } }, [], change), {
    name: 'VmError',
    kind: 'InvalidArgument',
  });
  t.end();
});

void t.test('a pool that has half of a core gives none of it', (t) => {
  const plan = server(t);
  const dedicated = { vcpus: 1, cpuPinning: 'dedicated' } as const;
  t.throws(() => plan(dedicated, [], { dedicatedPool: [4] }), { name: 'VmError', kind: 'ResourceExhausted' });
  t.same(plan(dedicated, [], { dedicatedPool: [4, 20] }).pins, { vcpus: [[4]], emulator: [20] });
  t.end();
});

void t.test('kubelet’s cpuset wins, and the VM stays on one node within it where that is enough', (t) => {
  const plan = server(t);
  const on = (list: string, vm: Partial<NumaVm> = {}): NumaPlan =>
    plan(vm, [], { kubeletCpus: parseCpuList(list) });
  t.match(on('2-3'), { cpus: [2, 3], ram: { kind: 'whole', host: { node: 0 } } });
  t.equal(formatCpuList(on('1-15').cpus ?? []), '8-15', 'the shared pool of a static CPU manager');
  const split = on('7-8,23-24', { vcpus: 4 });
  t.match(split.ram, { kind: 'nodes', nodes: [{ vcpus: 2 }, { vcpus: 2 }] });
  t.same(split.cpus, [7, 8, 23, 24]);
  t.match(on('2-5', { vcpus: 4, cpuPinning: 'dedicated' }).pins?.vcpus, [[2], [3], [4], [5]]);
  t.match(
    plan({}, [], { memoryNodes: [0] }).ram,
    { host: { node: 0 } },
    'a memory manager’s node is the only one',
  );
  t.end();
});

void t.test('huge pages come from a node that has them', (t) => {
  const plan = server(t);
  const huge = { hugepageBytes: 2 ** 21, memoryBytes: 2 * GIB };
  const first = plan(huge);
  t.match(first, { claim: { pageBytes: 2 ** 21, shares: [{ node: 0 }] }, ram: { host: { policy: 'bind' } } });
  t.match(plan(huge, [first.claim]), { ram: { kind: 'whole', host: undefined } }, 'and there are no more');
  t.end();
});

void t.test('one node needs no binding', (t) => {
  const root = machineTree(t, { nodes: [{ cpus: [0, 1], memoryMib: 4096 }] });
  const topology = readTopology(host, root);
  const plan = (numa: NumaVm['numa']): NumaPlan => planVm({ ...base, numa }, topology, [], limits, () => []);
  t.match(plan({ kind: 'auto' }), { cpus: undefined, ram: { host: undefined } });
  t.match(plan({ kind: 'node', node: 0 }), { cpus: undefined, ram: { host: { node: 0 } } });
  t.throws(() => plan({ kind: 'node', node: 1 }), { name: 'VmError', kind: 'NotFound' });
  t.throws(() => plan({ kind: 'spread' }), { name: 'VmError', kind: 'ResourceExhausted' });
  t.end();
});
