/**
 * A shim as the ledger sees it: enters `count` VMs of 1 GiB at once, says what became of each, and lives until its
 * input ends.
 *
 *     node ledger-process.ts PATH NAME COUNT LIMIT_GIB
 */
import { once } from 'node:events';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { loadNative } from '../../src/host/native.ts';
import { bootId, readIdentity } from '../../src/host/process-identity.ts';
import { usageOf } from '../../src/numa/claim.ts';
import { enter } from '../../src/numa/ledger.ts';

const GIB = 2 ** 30;
const [path = '', name = '', count = '', limit = ''] = process.argv.slice(2);
const host = new LinuxHost();
const ledger = {
  host,
  native: loadNative(),
  path,
  rebuild: () => [],
  warn: (text: string) => console.error(text),
};
const startTime = readIdentity(host, process.pid)?.startTime ?? 0;
const owner = { pid: process.pid, startTime, bootId: bootId(host) };

process.stdout.write('ready\n');
await once(process.stdin, 'data');
const results = await Promise.all(
  Array.from({ length: Number(count) }, (_, i) =>
    enter(
      ledger,
      { key: `${name}-${i}`, name, owner },
      (claims) => {
        if (usageOf(claims).memoryBytes(0, 0) + GIB > Number(limit) * GIB) throw new Error('full');
        const claim = { shares: [{ node: 0, vcpus: 1, memoryBytes: GIB }], pageBytes: 0, dedicated: [] };
        return { claim, result: 'entered' };
      },
      AbortSignal.timeout(60_000),
    ).catch((error: unknown) => (error as Error).message),
  ),
);
process.stdout.write(`${results.join(' ')}\n`);
process.stdin.resume();
await once(process.stdin, 'end');
