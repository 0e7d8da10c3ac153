import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';

const setup = join(import.meta.dirname, '../../scripts/setup');

void t.test('on a machine that is set up no package is missing, so that none is installed again', (t) => {
  const missing = execFileSync('bash', ['-c', `. ${setup}; missing_packages`], { encoding: 'utf8' });
  t.equal(missing, '');
  t.end();
});
