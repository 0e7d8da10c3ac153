import { join } from 'node:path';
import t from 'tap';
import { Programs } from '../../src/host/programs.ts';

const lib = join(import.meta.dirname, '../../dist/lib/vmshim');

void t.test('the code caches that were built are those of the Node that runs the programs', (t) => {
  const programs = new Programs();
  // Without a command it only says what it is.
  delete process.env['CNI_COMMAND'];
  for (const name of [
    'serve',
    'guest-drive',
    'open-vm-disks',
    'share-directories',
    'cgroup-metrics',
    'delete',
    'vm-tap',
  ]) {
    const path = join(lib, `${name}.js`);
    programs.load(path);
    t.equal(programs.scripts.get(path)?.cachedDataRejected, false, name);
  }
  t.end();
});
