import { join } from 'node:path';
import { parseCpuList } from '../core/cpu-list.ts';
import { VmError } from '../core/errors.ts';
import { absentIs } from '../host/absent-is.ts';
import type { Host } from '../host/host.ts';

/** What the kernel says of this machine's memory nodes, ascending by id; at least one. */
export interface Topology {
  readonly nodes: readonly NumaNode[];
}

export interface NumaNode {
  readonly id: number;
  /** Online CPUs, ascending; none on a node that is memory alone (CXL, HBM). */
  readonly cpus: readonly number[];
  /** All memory in bytes, huge pages included; 0 on a node that has CPUs alone. */
  readonly memoryBytes: number;
  /** ACPI SLIT to every node by id: 10 is local, 20 twice as far. */
  readonly distances: ReadonlyMap<number, number>;
  /** Pages set aside, by their size in bytes. */
  readonly hugepages: ReadonlyMap<number, HugepagePool>;
}

export interface HugepagePool {
  readonly total: number;
  readonly free: number;
}

const NODES = 'sys/devices/system/node';
const CPUS = 'sys/devices/system/cpu';
const LOCAL_DISTANCE = 10;
const REMOTE_DISTANCE = 20;

/** The ids of the online nodes; `[0]` where the kernel knows no NUMA. One read: for those who only ask how many. */
export function readNodeIds(host: Host, root = '/'): readonly number[] {
  const text = absentIs('0', () => host.readText(join(root, NODES, 'online')).trim());
  const ids = parseList(join(root, NODES, 'online'), text);
  return ids.length > 0 ? ids : [0];
}

/**
 * Reads nodes, CPUs, memory and distances from sysfs (Documentation/ABI/stable/sysfs-devices-node). Offline CPUs and
 * nodes are left out. Throws Internal for files that are not as documented.
 * @param root stands for `/`.
 */
export function readTopology(host: Host, root = '/'): Topology {
  const ids = readNodeIds(host, root);
  const online = readList(host, join(root, CPUS, 'online'));
  const known = host.inspect(join(root, NODES)) !== undefined;
  if (!known) return { nodes: [wholeMachine(host, online, root)] };
  return { nodes: ids.map((id) => readNode(host, join(root, NODES, `node${id}`), { id, ids, online })) };
}

/**
 * The physical cores as groups of CPUs (SMT siblings), each ascending, in order of their first CPU. A core has as its
 * members only those of `cpus`: an offline sibling is none.
 */
export function readCores(host: Host, cpus: readonly number[], root = '/'): readonly (readonly number[])[] {
  const cores = new Map<number, number[]>();
  for (const cpu of cpus) {
    const path = join(root, CPUS, `cpu${cpu}`, 'topology/thread_siblings_list');
    // A machine without the file has no SMT that anybody could know of.
    const text = absentIs(String(cpu), () => host.readText(path).trim());
    const siblings = parseList(path, text).filter((sibling) => cpus.includes(sibling));
    cores.set(siblings[0] ?? cpu, siblings);
  }
  return [...cores.values()].sort(([a = 0], [b = 0]) => a - b);
}

/** The distance between two nodes of one machine. */
export function distance(from: NumaNode, to: NumaNode): number {
  return from.distances.get(to.id) ?? (from.id === to.id ? LOCAL_DISTANCE : REMOTE_DISTANCE);
}

interface Around {
  readonly id: number;
  readonly ids: readonly number[];
  readonly online: readonly number[];
}

function readNode(host: Host, dir: string, { id, ids, online }: Around): NumaNode {
  const far = absentIs('', () => host.readText(join(dir, 'distance')).trim());
  // In the order of the online nodes, without their ids.
  const distances = far === '' ? [] : far.split(/\s+/).map(Number);
  return {
    id,
    cpus: readList(host, join(dir, 'cpulist')).filter((cpu) => online.includes(cpu)),
    memoryBytes: memTotal(join(dir, 'meminfo'), host.readText(join(dir, 'meminfo'))),
    distances: new Map(
      ids.flatMap((other, i) => (distances[i] === undefined ? [] : [[other, distances[i]] as const])),
    ),
    hugepages: readHugepages(host, join(dir, 'hugepages')),
  };
}

/** A kernel without CONFIG_NUMA. */
function wholeMachine(host: Host, cpus: readonly number[], root: string): NumaNode {
  const meminfo = join(root, 'proc/meminfo');
  return {
    id: 0,
    cpus,
    memoryBytes: memTotal(meminfo, host.readText(meminfo)),
    distances: new Map([[0, LOCAL_DISTANCE]]),
    hugepages: readHugepages(host, join(root, 'sys/kernel/mm/hugepages')),
  };
}

/** Directories `hugepages-2048kB` with a file per count (Documentation/admin-guide/mm/hugetlbpage.rst). */
function readHugepages(host: Host, dir: string): Map<number, HugepagePool> {
  const pools = new Map<number, HugepagePool>();
  for (const name of absentIs<string[]>([], () => host.listDir(dir))) {
    const kib = /^hugepages-(\d+)kB$/.exec(name)?.[1];
    if (kib === undefined) continue;
    const count = (file: string): number => {
      const path = join(dir, name, file);
      return number(path, host.readText(path).trim());
    };
    pools.set(Number(kib) * 1024, { total: count('nr_hugepages'), free: count('free_hugepages') });
  }
  return pools;
}

function memTotal(path: string, meminfo: string): number {
  return number(path, /MemTotal:\s+(\d+) kB/.exec(meminfo)?.[1] ?? '') * 1024;
}

function readList(host: Host, path: string): number[] {
  return parseList(path, host.readText(path).trim());
}

function parseList(path: string, text: string): number[] {
  const list = parseCpuList(text);
  if (list !== undefined) return list;
  throw new VmError('Internal', `${path} has "${text}" where a list such as "0-3,8" belongs`);
}

function number(path: string, text: string): number {
  if (/^\d+$/.test(text)) return Number(text);
  throw new VmError('Internal', `${path} has "${text}" where a number belongs`);
}
