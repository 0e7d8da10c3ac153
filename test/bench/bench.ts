import { existsSync } from 'node:fs';
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { measureFirstByte } from './first-byte.ts';
import { measureMemory } from './memory.ts';
import { type Results, table, writeJson } from './report.ts';
import { measureState } from './rpc-latency.ts';
import { measureStart } from './start-time.ts';

/**
 * `npm run bench [-- --json FILE]`: this shim beside containerd-shim-runc-v2 and beside QEMU alone, in one run on this
 * machine. What is measured and how stands in docs/benchmarks.md. It prints, and never judges.
 */
const { values } = parseArgs({ options: { json: { type: 'string' } } });

/** Beside our own program and Node. The second shim and runc come with Debian's containerd. */
const NEEDED = [
  '/usr/bin/containerd',
  '/usr/bin/ctr',
  '/usr/bin/containerd-shim-runc-v2',
  '/usr/sbin/runc',
  '/usr/bin/qemu-system-x86_64',
  '/bin/busybox',
];
const missing = NEEDED.filter((path) => !existsSync(path));
if (missing.length > 0 || process.getuid?.() !== 0) {
  process.stderr.write(
    `the bench runs as root and needs ${NEEDED.join(', ')}; missing: ${missing.join(', ') || 'root'}\n`,
  );
  process.exit(1);
}

async function step<T>(what: string, measure: () => Promise<T>): Promise<T> {
  const began = performance.now();
  const result = await measure();
  process.stderr.write(`${what}: measured in ${((performance.now() - began) / 1000).toFixed(0)} s\n`);
  return result;
}

const loadBefore = loadavg()[0] ?? 0;
const results: Results = {
  start: await step('start', () => measureStart(25)),
  state: await step('State', () => measureState(10, 300)),
  memory: await step('memory', () => measureMemory(20)),
  firstByte: await step('first byte', () => measureFirstByte(15)),
  loadBefore,
};
process.stdout.write(`${table(results)}\n`);
if (values.json !== undefined) writeJson(values.json, results);
