import t from 'tap';
import { tscKhz } from '../../../scripts/node/tsc-frequency.ts';

const cpu = (mhz: string, flags: string): string =>
  `processor\t: 0\nmodel name\t: a CPU\ncpu MHz\t\t: ${mhz}\nflags\t\t: fpu ${flags} tsc\nbogomips\t: 1\n`;

void t.test('only a virtual machine without APERF tells its TSC', (t) => {
  t.equal(tscKhz(cpu('2596.134', 'hypervisor')), 2_596_134);
  t.equal(tscKhz(cpu('2596.134', 'hypervisor') + cpu('2000.000', 'hypervisor')), 2_596_134);
  t.equal(tscKhz(cpu('1200.000', 'aperfmperf')), undefined);
  t.equal(tscKhz(cpu('1200.000', 'hypervisor aperfmperf')), undefined);
  t.equal(tscKhz(cpu('0.000', 'hypervisor')), undefined);
  t.equal(tscKhz(''), undefined);
  t.end();
});
