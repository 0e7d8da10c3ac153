import t from 'tap';
import { parseMountinfo } from '../../../src/host/mountinfo.ts';

void t.test('optional fields and escapes of proc_pid_mountinfo(5)', (t) => {
  const text = [
    '36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue',
    '37 35 0:5 / /a\\040b\\134c rw - tmpfs none\\011x rw',
    'not a mount',
    '',
  ].join('\n');
  t.strictSame(parseMountinfo(text), [
    {
      root: '/mnt1',
      mountPoint: '/mnt2',
      fsType: 'ext3',
      source: '/dev/root',
      superOptions: ['rw', 'errors=continue'],
    },
    { root: '/', mountPoint: '/a b\\c', fsType: 'tmpfs', source: 'none\tx', superOptions: ['rw'] },
  ]);
  t.end();
});
