import { existsSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { privateContainerd } from '../support/containerd.ts';
import { tempDir } from '../support/temp-dir.ts';
import { BenchScope } from './bench-scope.ts';
import { benchImage } from './disk/bench-image.ts';
import { type DiskResults, figures, table } from './disk/disk-report.ts';
import { measurePrepare } from './disk/prepare-time.ts';
import { measureTraffic } from './disk/traffic.ts';

/**
 * `npm run bench:disk [-- --json FILE] [--quick]`: a guest's disk beside that of QEMU started by hand, and what a VM's start
 * spends on its disks. What is measured and how stands in docs/benchmarks.md. It prints, and never judges.
 */
const { values } = parseArgs({
  options: { json: { type: 'string' }, quick: { type: 'boolean', default: false } },
});
const NEEDED = [
  '/usr/bin/containerd',
  '/usr/bin/ctr',
  '/usr/bin/qemu-system-x86_64',
  '/usr/bin/qemu-img',
  '/usr/bin/fio',
];
const missing = NEEDED.filter((path) => !existsSync(path));
if (missing.length > 0 || process.getuid?.() !== 0) {
  process.stderr.write(
    `the bench runs as root and needs ${NEEDED.join(', ')}; missing: ${missing.join(', ') || 'root'}\n`,
  );
  process.exit(1);
}
const plan = values.quick ? { rounds: 1, seconds: 1, starts: 5 } : { rounds: 4, seconds: 2, starts: 20 };

const loadBefore = loadavg()[0] ?? 0;
const results: DiskResults = await (async () => {
  await using scope = new BenchScope();
  const directory = tempDir(scope);
  const image = await benchImage(directory);
  const prepare = measurePrepare(directory, image.qcow2, plan.starts);
  const containerd = await privateContainerd(scope, { accel: 'tcg' });
  await containerd.ctr('images', 'import', image.archive);
  return { prepare, traffic: await measureTraffic(containerd, directory, image, plan), loadBefore };
})();
process.stdout.write(`${table(results)}\n`);
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(figures(results), null, 2)}\n`);
