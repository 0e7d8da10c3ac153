import t from 'tap';
import { describeSource } from '../../../src/core/describe-disk.ts';

void t.test('what a disk is made of is one line, whatever a pod names its paths', (t) => {
  const device = (path: string): string => describeSource({ kind: 'device', path, major: 7, minor: 1 });
  t.equal(device('/dev/vdb'), 'block volume /dev/vdb');
  t.equal(device('/dev/a\nlevel=error msg=forged'), 'block volume /dev/a\\nlevel=error msg=forged');
  t.end();
});
