import { formatCpuList } from '../core/cpu-list.ts';
import type { NumaConfig } from '../core/config.ts';
import type { Host } from '../host/host.ts';
import { usageOf } from '../numa/claim.ts';
import type { LedgerEntry } from '../numa/ledger-file.ts';
import { living, readLedger } from '../numa/ledger.ts';
import { readTopology, type Topology } from '../numa/topology.ts';
import { usableNodes } from '../numa/usable-nodes.ts';
import { numaBooks, recordedEntries } from '../vm/numa-books.ts';
import { type Command, parseCommandLine, UsageError } from './command.ts';
import { renderTable } from './table.ts';

export const numaCommand: Command = {
  name: 'numa',
  usage: '[--json]',
  summary: 'what VMs have of this node’s memory nodes and CPUs',
  details:
    'One line per memory node (NUMA node) that VMs are placed on. VCPUS and MEMORY are what VMs have of what the\nconfig file’s thresholds let them have; a VM that is bound to no node counts on each by its size.',
  options: [{ flag: '--json', text: 'one JSON object instead of a table' }],
  takesVm: false,
  run(args, { host, config, print }) {
    const { values, positionals } = parseCommandLine(args, { json: { type: 'boolean' } });
    if (positionals.length > 0)
      throw new UsageError('numa takes no VM; "vmctl status VM" shows where one is');
    const { stateDir, numa } = config();
    const rows = describeNodes(readTopology(host), readEntries(host, stateDir), numa);
    print(values.json === true ? `${JSON.stringify({ nodes: rows }, null, 2)}\n` : nodeTable(rows));
    return Promise.resolve(0);
  },
};

export interface NodeRow {
  readonly node: number;
  /** Such as `0-7,16`. */
  readonly cpus: string;
  readonly vcpus: { readonly used: number; readonly limit: number };
  readonly memoryBytes: { readonly used: number; readonly limit: number };
  readonly hugepages: readonly {
    readonly pageBytes: number;
    readonly usedBytes: number;
    readonly limitBytes: number;
  }[];
  /** CPUs for VMs that share none, and those that VMs have. */
  readonly dedicated: { readonly cpus: string; readonly used: string };
  /** Names, in the order of the books. */
  readonly vms: readonly string[];
}

export function describeNodes(
  topology: Topology,
  entries: readonly LedgerEntry[],
  config: NumaConfig,
): NodeRow[] {
  const usage = usageOf(entries.map(({ claim }) => claim));
  return usableNodes(topology).map(({ id, cpus, memoryBytes, hugepageBytes }) => {
    const pool = cpus.filter((cpu) => config.dedicatedCpus.includes(cpu));
    return {
      node: id,
      cpus: formatCpuList(cpus),
      vcpus: { used: usage.vcpus(id), limit: (cpus.length - pool.length) * config.cpuThreshold },
      memoryBytes: {
        used: usage.memoryBytes(id, 0),
        limit: Math.floor(memoryBytes * config.memoryThreshold),
      },
      hugepages: [...hugepageBytes]
        .filter(([, limitBytes]) => limitBytes > 0)
        .map(([pageBytes, limitBytes]) => ({
          pageBytes,
          usedBytes: usage.memoryBytes(id, pageBytes),
          limitBytes,
        })),
      dedicated: {
        cpus: formatCpuList(pool),
        used: formatCpuList(cpus.filter((cpu) => usage.dedicated.has(cpu))),
      },
      vms: entries
        .filter(({ claim }) => claim.shares.some(({ node }) => node === id))
        .map(({ name }) => name),
    };
  });
}

/** The books, and the VMs of a machine that needs none. */
function readEntries(host: Host, stateDir: string): LedgerEntry[] {
  const warn = (sentence: string): void => void process.stderr.write(`vmctl: ${sentence}\n`);
  const booked = readLedger(numaBooks(host, stateDir, warn));
  const keys = new Set(booked.map(({ key }) => key));
  return [...booked, ...living(host, recordedEntries(host, stateDir)).filter(({ key }) => !keys.has(key))];
}

function nodeTable(rows: readonly NodeRow[]): string {
  const gib = (bytes: number): string => (bytes / 2 ** 30).toFixed(1);
  const part = (used: string, limit: string): string => `${used} of ${limit}`;
  return renderTable(
    ['NODE', 'CPUS', 'VCPUS', 'MEMORY', 'HUGEPAGES', 'DEDICATED', 'VMS'],
    rows.map(({ node, cpus, vcpus, memoryBytes, hugepages, dedicated, vms }) => [
      String(node),
      cpus,
      part(String(round(vcpus.used)), String(round(vcpus.limit))),
      `${part(gib(memoryBytes.used), gib(memoryBytes.limit))} GiB`,
      hugepages.map((pool) => `${part(gib(pool.usedBytes), gib(pool.limitBytes))} GiB`).join(', ') || '-',
      dedicated.cpus === '' ? dedicated.used || '-' : part(dedicated.used || 'none', dedicated.cpus),
      vms.join(', ') || '-',
    ]),
  );
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
