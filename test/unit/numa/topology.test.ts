import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { readLinkNode } from '../../../src/numa/device-node.ts';
import { distance, readCores, readNodeIds, readTopology } from '../../../src/numa/topology.ts';
import { usableNodes } from '../../../src/numa/usable-nodes.ts';
import { machineTree, range } from '../../support/numa-machine.ts';

const host = new LinuxHost();
const GIB = 2 ** 30;

void t.test('this machine, whatever it is', (t) => {
  const { nodes } = readTopology(host);
  t.same(
    nodes.map(({ id }) => id),
    readNodeIds(host),
  );
  t.ok(nodes.some(({ memoryBytes }) => memoryBytes > 2 ** 28));
  const cpus = nodes.flatMap((node) => node.cpus);
  t.ok(cpus.length > 0);
  t.same(
    readCores(host, cpus)
      .flat()
      .sort((a, b) => a - b),
    cpus,
  );
  t.end();
});

void t.test('one socket, without SMT', (t) => {
  const root = machineTree(t, { nodes: [{ cpus: range(0, 3), memoryMib: 8192 }] });
  t.match(readTopology(host, root).nodes, [{ id: 0, cpus: [0, 1, 2, 3], memoryBytes: 8 * GIB }]);
  t.same(readCores(host, [0, 1, 2, 3], root), [[0], [1], [2], [3]]);
  t.end();
});

void t.test('two sockets with SMT: siblings are far apart in number', (t) => {
  const cores = range(0, 15).map((cpu) => [cpu, cpu + 16]);
  const root = machineTree(t, {
    nodes: [
      { cpus: [...range(0, 7), ...range(16, 23)], memoryMib: 65_536, hugepages: 512 },
      { cpus: [...range(8, 15), ...range(24, 31)], memoryMib: 65_536 },
    ],
    cores,
    offline: [31],
  });
  const [first, second] = readTopology(host, root).nodes;
  t.same(second?.cpus, [...range(8, 15), ...range(24, 30)], 'an offline CPU is none');
  t.equal(distance(first!, second!), 21);
  t.equal(distance(first!, first!), 10);
  t.same([...first!.hugepages], [[2 ** 21, { total: 512, free: 512 }]]);
  t.equal(usableNodes({ nodes: [first!] })[0]?.memoryBytes, 63 * GIB, 'huge pages are no ordinary memory');
  const read = readCores(host, second!.cpus, root);
  t.same(read[0], [8, 24]);
  t.same(read.at(-1), [15], 'an offline sibling is no part of its core');
  t.end();
});

void t.test('four nodes of sub-NUMA clustering, ids with a gap, eight of two boards', (t) => {
  const row = (self: number): number[] =>
    range(0, 3).map((to) => (to === self ? 10 : Math.floor(to / 2) === Math.floor(self / 2) ? 12 : 32));
  const root = machineTree(t, {
    nodes: range(0, 3).map((i) => ({ cpus: range(4 * i, 4 * i + 3), memoryMib: 1024, distances: row(i) })),
    ids: [0, 1, 4, 5],
  });
  const { nodes } = readTopology(host, root);
  t.same(readNodeIds(host, root), [0, 1, 4, 5]);
  t.equal(distance(nodes[2]!, nodes[3]!), 12);
  t.equal(distance(nodes[0]!, nodes[3]!), 32, 'distances are by id, in the order of the nodes');
  const eight = machineTree(t, {
    nodes: range(0, 7).map((i) => ({ cpus: range(2 * i, 2 * i + 1), memoryMib: 512 })),
  });
  t.equal(usableNodes(readTopology(host, eight)).length, 8);
  t.end();
});

void t.test('CPUs without memory go to the nearest memory, memory without CPUs to nobody', (t) => {
  const root = machineTree(t, {
    nodes: [
      { cpus: [0, 1], memoryMib: 1024, distances: [10, 30, 20, 40] },
      { cpus: [2, 3], memoryMib: 1024, distances: [30, 10, 12, 40] },
      { cpus: [4], memoryMib: 0, distances: [20, 12, 10, 40] },
      { cpus: [], memoryMib: 4096, distances: [40, 40, 40, 10] },
    ],
  });
  t.same(
    usableNodes(readTopology(host, root)).map(({ id, cpus }) => [id, cpus]),
    [
      [0, [0, 1]],
      [1, [2, 3, 4]],
    ],
  );
  t.end();
});

void t.test('a kernel without NUMA is one node; wrong files are told by name', (t) => {
  const root = machineTree(t, { nodes: [{ cpus: [0, 1], memoryMib: 1 }] });
  rmSync(join(root, 'sys/devices/system/node'), { recursive: true });
  mkdirSync(join(root, 'proc'));
  writeFileSync(join(root, 'proc/meminfo'), 'MemTotal:        2048 kB\n');
  t.same(readNodeIds(host, root), [0]);
  t.match(readTopology(host, root).nodes, [{ id: 0, cpus: [0, 1], memoryBytes: 2 ** 21 }]);
  writeFileSync(join(root, 'sys/devices/system/cpu/online'), '0-');
  t.throws(() => readTopology(host, root), { name: 'VmError', message: /cpu\/online has "0-" where a list/ });
  t.end();
});

void t.test('the node of a network card', (t) => {
  const root = machineTree(t, { nodes: [{ cpus: [0], memoryMib: 1 }] });
  const put = (link: string, node: string): void => {
    mkdirSync(join(root, 'sys/class/net', link, 'device'), { recursive: true });
    writeFileSync(join(root, 'sys/class/net', link, 'device/numa_node'), `${node}\n`);
  };
  put('ens1', '1');
  put('ens2', '-1');
  mkdirSync(join(root, 'sys/class/net/br0'));
  t.equal(readLinkNode(host, 'ens1', root), 1);
  t.equal(readLinkNode(host, 'ens2', root), undefined, 'the firmware does not tell');
  t.throws(() => readLinkNode(host, 'br0', root), {
    name: 'VmError',
    message: /"near:br0", which is no device of its own/,
  });
  t.throws(() => readLinkNode(host, 'ens9', root), { name: 'VmError', message: /no such network interface/ });
  t.end();
});
