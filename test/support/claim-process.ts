/**
 * A shim that wants the guest of a dead one: claims it when it is told to, says what became of that, and lives until its
 * input ends.
 *
 *     node claim-process.ts STATE_DIR OWNER
 */
import { once } from 'node:events';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { loadNative } from '../../src/host/native.ts';
import { claimOrphan } from '../../src/vm/orphan-claim.ts';

const [stateDir = '', owner = ''] = process.argv.slice(2);
const deps = { host: new LinuxHost(), native: loadNative() };

process.stdout.write('ready\n');
await once(process.stdin, 'data');
const said = await claimOrphan(deps, { owner, config: { stateDir }, fits: () => true }).then(
  ({ kind }) => kind,
  (error: unknown) => (error as Error).message,
);
process.stdout.write(`${said}\n`);
process.stdin.resume();
await once(process.stdin, 'end');
