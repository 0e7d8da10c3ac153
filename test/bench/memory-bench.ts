import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { measureOverhead, type Overhead } from './overhead.ts';
import { layOut } from './table.ts';

/**
 * `npm run bench:memory [-- --json FILE]`: what VMs of different makeup cost beside the RAM of their guests. It is what the
 * formula of src/vm/memory-limit.ts and the RuntimeClass's overhead are checked against; docs/memory.md. Needs root.
 */
const { values } = parseArgs({ options: { json: { type: 'string' } } });
const results = await measureOverhead();
const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
const row = ({ what, ram, cgroup, anonymous, pageTables, shimPrivate }: Overhead): string[] => [
  what,
  ...[ram, cgroup, anonymous, pageTables, shimPrivate].map(mib),
];
const head = ['MiB', 'guest RAM', 'cgroup beside it', 'anonymous', 'page tables', 'shim'];
process.stdout.write(`${layOut([head, ...results.map(row)]).join('\n')}\n`);
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`);
