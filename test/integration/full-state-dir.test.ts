/** A state directory without space: what is asked of us then must not leave a guest that nobody can find. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { processEnded, ShimClient } from '../support/shim-client.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

void t.test('a shim dies whose guest cannot be marked as an orphan', async (t) => {
  const shims = await ShimClient.make(t);
  const state = join(shims.directory, 'vms');
  mkdirSync(state, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1M,mode=0711', 'vmshim-test', state]);
  t.teardown(() => execFileSync('umount', ['-l', state]));
  const shim = await shims.shim('full', { annotations: { 'vmshim.io/on-shim-death': 'survive' } });
  await shim.task.create({ id: 'full', bundle: shim.bundle });
  await shim.task.start({ id: 'full' });
  const record = vmRecord(shims, 'full', shims.namespace);
  t.ok(record.survival, 'it was to survive');
  t.throws(() => execFileSync('dd', ['if=/dev/zero', `of=${state}/ballast`, 'bs=4k'], { stdio: 'ignore' }));
  process.kill(shim.pid, 'SIGKILL');
  await processEnded(shim.pid);
  t.match(await shims.delete('full'), { exitStatus: 137, pid: pidOf(record.qemu) });
  await processEnded(pidOf(record.qemu));
  execFileSync('rm', [`${state}/ballast`]);
});
