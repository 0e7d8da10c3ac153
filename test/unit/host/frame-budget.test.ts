import t from 'tap';
import { FrameBudget } from '../../../src/host/frame-budget.ts';

void t.test('so many per window, and the time to the next one', (t) => {
  const budget = new FrameBudget(2, 1000);
  t.equal(budget.take(5000), 0);
  t.equal(budget.take(5900), 0);
  t.equal(budget.take(5900), 100);
  t.equal(budget.take(5999), 1);
  t.equal(budget.take(6000), 0, 'a new window');
  t.equal(budget.take(6000), 0);
  t.equal(budget.take(6250), 750);
  t.equal(budget.take(60_000), 0);
  t.end();
});
