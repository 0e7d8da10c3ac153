import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildAddon } from '../../scripts/build-addon.ts';
import { guest } from '../support/guest.ts';

/**
 * `npm run bench:net [-- --json FILE] [--quick]`: the ways a guest can be joined with a network, beside each other, and the
 * CNI plugin beside the stock ones. What is measured and how stands in docs/benchmarks.md. It prints, and never judges.
 *
 * This process only makes namespaces of network, mounts and processes, so that nothing of the bench reaches the machine's
 * network, and everything of it ends with it, even when it is killed.
 */
const NEEDED = [
  ...['/usr/bin/qemu-system-x86_64', '/usr/bin/iperf3', '/usr/sbin/nft', '/usr/sbin/tc', '/usr/bin/unshare'],
  ...['bridge', 'ptp', 'host-local'].map((plugin) => `/usr/lib/cni/${plugin}`),
  join(import.meta.dirname, '../../dist/lib/vmshim/vm-tap.cjs'),
];
const missing = NEEDED.filter((path) => !existsSync(path));
if (missing.length > 0 || process.getuid?.() !== 0) {
  process.stderr.write(
    `the bench runs as root after scripts/setup; missing: ${missing.join(', ') || 'root'}\n`,
  );
  process.exit(1);
}
// In there is no network to get packages from.
buildAddon();
await guest();

const directory = mkdtempSync(join(tmpdir(), 'vmshim-bench-'));
const child = spawn(
  'unshare',
  [
    ...['--net', '--mount', '--propagation=private', '--pid', '--fork', '--kill-child', '--mount-proc'],
    ...[process.execPath, join(import.meta.dirname, 'net/net-bench-inside.ts'), ...process.argv.slice(2)],
  ],
  { stdio: 'inherit', env: { ...process.env, TMPDIR: directory } },
);
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill('SIGKILL'));
const [status] = (await once(child, 'close')) as [number | null];
rmSync(directory, { recursive: true, force: true });
process.exitCode = status ?? 1;
