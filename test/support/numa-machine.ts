import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { formatCpuList } from '../../src/core/cpu-list.ts';
import { type Teardown, tempDir } from './temp-dir.ts';

/** A machine as its sysfs shows it. */
export interface MachineNode {
  readonly cpus: readonly number[];
  readonly memoryMib: number;
  /** To every node, in their order; 10 to itself and 21 to others by default. */
  readonly distances?: readonly number[];
  /** Huge pages of 2 MiB. */
  readonly hugepages?: number;
}

export interface MachineTree {
  readonly nodes: readonly MachineNode[];
  readonly offline?: readonly number[];
  /** CPUs of one core, for every core; default: each CPU is a core. */
  readonly cores?: readonly (readonly number[])[];
  /** Ids of the nodes when they are not 0, 1, 2 … */
  readonly ids?: readonly number[];
}

/** Writes the files that `readTopology` and `readCores` look at below a directory that stands for `/`. */
export function machineTree(t: Teardown, { nodes, offline = [], cores = [], ids }: MachineTree): string {
  const root = tempDir(t);
  const put = (path: string, text: string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), `${text}\n`);
  };
  const idOf = (index: number): number => ids?.[index] ?? index;
  const online = nodes.flatMap(({ cpus }) => cpus).filter((cpu) => !offline.includes(cpu));
  put('sys/devices/system/cpu/online', formatCpuList(online));
  put('sys/devices/system/node/online', formatCpuList(nodes.map((_, i) => idOf(i))));
  nodes.forEach(({ cpus, memoryMib, distances, hugepages = 0 }, i) => {
    const dir = `sys/devices/system/node/node${idOf(i)}`;
    put(`${dir}/cpulist`, formatCpuList(cpus.filter((cpu) => online.includes(cpu))));
    put(
      `${dir}/meminfo`,
      `Node ${idOf(i)} MemTotal:       ${memoryMib * 1024} kB\nNode ${idOf(i)} MemFree: 1 kB`,
    );
    put(`${dir}/distance`, (distances ?? nodes.map((_, to) => (to === i ? 10 : 21))).join(' '));
    put(`${dir}/hugepages/hugepages-2048kB/nr_hugepages`, String(hugepages));
    put(`${dir}/hugepages/hugepages-2048kB/free_hugepages`, String(hugepages));
  });
  for (const cpu of online) {
    const siblings = (cores.find((core) => core.includes(cpu)) ?? [cpu]).filter((one) =>
      online.includes(one),
    );
    put(`sys/devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`, formatCpuList(siblings));
  }
  return root;
}

export function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}
