import { type Command, parseCommandLine, UsageError } from './command.ts';
import { type NodeRow, readNumaRows } from './numa-rows.ts';
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
    const warn = (sentence: string): void => void process.stderr.write(`vmctl: ${sentence}\n`);
    const { rows } = readNumaRows(host, config(), warn);
    print(values.json === true ? `${JSON.stringify({ nodes: rows }, null, 2)}\n` : nodeTable(rows));
    return Promise.resolve(0);
  },
};

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
