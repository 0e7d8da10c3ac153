/**
 * Our placement rule beside three others on simulated servers: the same VMs come and go on each.
 *
 *     npm run sim:numa -- [--arrivals N] [--seed N] [--cpu-threshold N] [--json FILE]
 *
 * A rule chooses one node, or none; a VM without a node is spread over several if it can be, else rejected. Kata's rule
 * keeps no books and takes what fits a node at all to the first one, so it never rejects and overfills it instead.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { renderTable } from '../../src/control/table.ts';
import type { Share } from '../../src/numa/claim.ts';
import {
  byKeys,
  fits,
  type NodeRoom,
  type PlacementPolicy,
  type PlacementRequest,
} from '../../src/numa/node-room.ts';
import { place } from '../../src/numa/placement.ts';
import { spread } from '../../src/numa/spread.ts';

const { values } = parseArgs({
  options: {
    arrivals: { type: 'string' },
    seed: { type: 'string' },
    'cpu-threshold': { type: 'string' },
    json: { type: 'string' },
  },
});
const arrivals = Number(values.arrivals ?? 20_000);
const seed = Number(values.seed ?? 1);
const POLICY: PlacementPolicy = {
  cpuThreshold: Number(values['cpu-threshold'] ?? 4),
  memoryThreshold: 0.9,
  overflow: 'spread',
};
const GIB = 2 ** 30;
const NODE = { cpus: 32, memoryBytes: 256 * GIB };
/** Memory asked for at any time, as a part of what the thresholds allow. */
const LOAD = 0.95;
const MEAN_LIFE = 1000;

type Rule = (nodes: readonly NodeRoom[], vm: PlacementRequest) => readonly Share[] | undefined;

const RULES: Readonly<Record<string, Rule>> = {
  'this project': (nodes, vm) => {
    const placement = place(nodes, vm, POLICY);
    return placement.kind === 'bound' ? placement.shares : undefined;
  },
  'first fit': (nodes, vm) => firstBy(nodes, vm, ({ id }) => [id]),
  'Nova’s order': (nodes, vm) =>
    firstBy(nodes, vm, ({ id, usedVcpus, usedBytes, memoryBytes }) => [
      usedVcpus,
      usedBytes - memoryBytes,
      id,
    ]),
  'Kata’s rule': (nodes, { vcpus, memoryBytes }) => {
    const [first] = nodes;
    if (first !== undefined && vcpus <= NODE.cpus && memoryBytes <= NODE.memoryBytes) {
      return [{ node: first.id, vcpus, memoryBytes }];
    }
    return nodes.map(({ id }) => ({
      node: id,
      vcpus: vcpus / nodes.length,
      memoryBytes: memoryBytes / nodes.length,
    }));
  },
};

interface Result {
  readonly nodes: number;
  readonly rule: string;
  /** Parts of all arrivals. */
  readonly rejected: number;
  readonly spread: number;
  /** Means over time of the largest less the smallest node's share of memory, and of CPU. */
  readonly memoryGap: number;
  readonly cpuGap: number;
  /** Part of all guest memory that is not on the node of the CPUs that use it. */
  readonly remote: number;
}

function firstBy(
  nodes: readonly NodeRoom[],
  vm: PlacementRequest,
  keys: (node: NodeRoom) => number[],
): readonly Share[] | undefined {
  const [best] = nodes.filter((node) => fits(node, vm, POLICY)).sort((a, b) => byKeys(keys(a), keys(b)));
  return best === undefined
    ? spread(nodes, vm, POLICY)
    : [{ node: best.id, vcpus: vm.vcpus, memoryBytes: vm.memoryBytes }];
}

/** mulberry32: the same numbers everywhere. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Many small VMs, some large ones, of few CPUs and much memory and the reverse. */
function arrival(random: () => number): PlacementRequest {
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!;
  const vcpus = pick([1, 1, 2, 2, 2, 4, 4, 8, 8, 16, 24]);
  const memoryBytes = Math.min(192, vcpus * pick([1, 2, 2, 4, 8, 16])) * GIB;
  return { vcpus, memoryBytes, stepBytes: 2 ** 20, choice: { kind: 'auto' }, canSpread: true, near: [] };
}

function simulate(rule: string, count: number, arrivals: number, seed: number): Result {
  const random = randomFrom(seed);
  const rest = (mean: number): number => -Math.log(1 - random()) * mean;
  const distances = (self: number) =>
    new Map(
      Array.from({ length: count }, (_, to) => [to, to === self ? 10 : to >> 1 === self >> 1 ? 16 : 32]),
    );
  let nodes: NodeRoom[] = Array.from({ length: count }, (_, id) => ({
    id,
    ...NODE,
    usedVcpus: 0,
    usedBytes: 0,
    distances: distances(id),
  }));
  const living: { until: number; shares: readonly Share[] }[] = [];
  const meanBytes =
    Array.from({ length: 4000 }, () => arrival(random).memoryBytes).reduce((a, b) => a + b) / 4000;
  const gap = (MEAN_LIFE * meanBytes) / (LOAD * POLICY.memoryThreshold * count * NODE.memoryBytes);
  const sums = { time: 0, memoryGap: 0, cpuGap: 0, remote: 0, bytes: 0 };
  let [now, rejected, divided] = [0, 0, 0];

  const book = (shares: readonly Share[], sign: 1 | -1): void => {
    nodes = nodes.map((node) => {
      const share = shares.find((one) => one.node === node.id);
      if (share === undefined) return node;
      return {
        ...node,
        usedVcpus: node.usedVcpus + sign * share.vcpus,
        usedBytes: node.usedBytes + sign * share.memoryBytes,
      };
    });
  };
  const pass = (until: number): void => {
    const time = until - now;
    now = until;
    const memory = nodes.map(({ usedBytes, memoryBytes }) => usedBytes / memoryBytes);
    const cpu = nodes.map(({ usedVcpus, cpus }) => usedVcpus / (cpus * POLICY.cpuThreshold));
    sums.time += time;
    sums.memoryGap += time * (Math.max(...memory) - Math.min(...memory));
    sums.cpuGap += time * (Math.max(...cpu) - Math.min(...cpu));
    sums.bytes += time * nodes.reduce((sum, { usedBytes }) => sum + usedBytes, 0);
    // What is beyond a node's memory is on another one; of a VM on k nodes each vCPU has 1/k of the memory near.
    const beyond = nodes.reduce((sum, node) => sum + Math.max(0, node.usedBytes - node.memoryBytes), 0);
    const apart = living.reduce((sum, { shares }) => {
      const bytes = shares.reduce((total, share) => total + share.memoryBytes, 0);
      return sum + bytes * (1 - 1 / shares.length);
    }, 0);
    sums.remote += time * (beyond + apart);
  };

  for (let i = 0; i < arrivals; i++) {
    const next = now + rest(gap);
    for (;;) {
      const first = living.reduce<number>((best, vm, j) => (vm.until < living[best]!.until ? j : best), 0);
      const ended = living[first];
      if (ended === undefined || ended.until > next) break;
      pass(ended.until);
      living.splice(first, 1);
      book(ended.shares, -1);
    }
    pass(next);
    const vm = arrival(random);
    const until = now + rest(MEAN_LIFE);
    const shares = RULES[rule]!(nodes, vm);
    if (shares === undefined) {
      rejected++;
      continue;
    }
    if (shares.length > 1) divided++;
    book(shares, 1);
    living.push({ until, shares });
  }
  return {
    nodes: count,
    rule,
    rejected: rejected / arrivals,
    spread: divided / arrivals,
    memoryGap: sums.memoryGap / sums.time,
    cpuGap: sums.cpuGap / sums.time,
    remote: sums.remote / sums.bytes,
  };
}

const results = [2, 4, 8].flatMap((nodes) =>
  Object.keys(RULES).map((rule) => simulate(rule, nodes, arrivals, seed)),
);
const percent = (part: number): string => `${(100 * part).toFixed(1)} %`;
process.stdout.write(
  renderTable(
    ['NODES', 'RULE', 'REJECTED', 'SPREAD', 'MEMORY GAP', 'CPU GAP', 'REMOTE'],
    results.map((one) => [
      String(one.nodes),
      one.rule,
      ...[one.rejected, one.spread, one.memoryGap, one.cpuGap, one.remote].map(percent),
    ]),
  ),
);
if (values.json !== undefined) {
  writeFileSync(values.json, `${JSON.stringify({ arrivals, seed, policy: POLICY, results }, null, 2)}\n`);
}
