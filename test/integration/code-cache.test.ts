import { join } from 'node:path';
import t from 'tap';
import { Programs } from '../../src/host/programs.ts';

const lib = join(import.meta.dirname, '../../dist/lib/vmshim');

void t.test('the code caches that were built are those of the Node that runs the shim', (t) => {
  const programs = new Programs();
  for (const name of ['serve', 'cgroup-metrics', 'delete']) {
    const path = join(lib, `${name}.js`);
    programs.load(path);
    t.equal(programs.scripts.get(path)?.cachedDataRejected, false, name);
  }
  t.end();
});
