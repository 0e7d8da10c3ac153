import { formatCpuList } from '../core/cpu-list.ts';
import type { Config, NumaConfig } from '../core/config.ts';
import type { Host } from '../host/host.ts';
import { type Share, usageOf } from '../numa/claim.ts';
import type { LedgerEntry } from '../numa/ledger-file.ts';
import { living, readLedger } from '../numa/ledger.ts';
import { readTopology, type Topology } from '../numa/topology.ts';
import { usableNodes } from '../numa/usable-nodes.ts';
import { numaBooks, recordedEntries } from '../vm/numa-books.ts';

/** A memory node that VMs are placed on: what they have of what the thresholds let them have. */
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

/** What one VM has of each node, by the name of its directory. */
export interface VmShares {
  readonly key: string;
  readonly shares: readonly Share[];
}

/** The books of this machine, as they are now. */
export function readNumaRows(
  host: Host,
  { stateDir, numa }: Pick<Config, 'stateDir' | 'numa'>,
  warn: (sentence: string) => void,
): { readonly rows: readonly NodeRow[]; readonly vms: readonly VmShares[] } {
  const entries = readEntries(host, stateDir, warn);
  return {
    rows: describeNodes(readTopology(host), entries, numa),
    vms: entries.map(({ key, claim }) => ({ key, shares: claim.shares })),
  };
}

function describeNodes(topology: Topology, entries: readonly LedgerEntry[], config: NumaConfig): NodeRow[] {
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

/** What the living VMs have: by the books, and by the records of those on a machine that needs none. */
function readEntries(host: Host, stateDir: string, warn: (sentence: string) => void): LedgerEntry[] {
  const booked = readLedger(numaBooks(host, stateDir, warn));
  const keys = new Set(booked.map(({ key }) => key));
  return [...booked, ...living(host, recordedEntries(host, stateDir)).filter(({ key }) => !keys.has(key))];
}
