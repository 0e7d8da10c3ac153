import fc from 'fast-check';
import t from 'tap';
import { formatCpuList, parseCpuList } from '../../../src/core/cpu-list.ts';

void t.test('lists of the kernel', (t) => {
  t.same(parseCpuList('0-3,8,10-11'), [0, 1, 2, 3, 8, 10, 11]);
  t.same(parseCpuList(''), []);
  t.equal(formatCpuList([11, 8, 0, 1, 2, 3, 10]), '0-3,8,10-11');
  for (const wrong of ['-', '1-', '3-1', 'a', '1,,2', '1 ,2', '0x1', '1-2-3', '9999999']) {
    t.equal(parseCpuList(wrong), undefined, wrong);
  }
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(300)), (numbers) => {
      const sorted = numbers.toSorted((a, b) => a - b);
      return JSON.stringify(parseCpuList(formatCpuList(numbers))) === JSON.stringify(sorted);
    }),
  );
  t.end();
});
