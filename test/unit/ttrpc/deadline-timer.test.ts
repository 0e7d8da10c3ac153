import { mock } from 'node:test';
import t, { type Test } from 'tap';
import { DeadlineTimer } from '../../../src/ttrpc/deadline-timer.ts';

/** A clock in the test's hands, for timers and `performance.now()` alike. */
function takeClock(t: Test): { advance: (ms: number) => void; delays: () => number[] } {
  let now = 1000.5;
  const clock = mock.method(performance, 'now', () => now);
  mock.timers.enable({ apis: ['setTimeout'] });
  const set = mock.method(globalThis, 'setTimeout');
  t.teardown(() => {
    set.mock.restore();
    clock.mock.restore();
    mock.timers.reset();
  });
  const advance = (ms: number): void => {
    now += ms;
    mock.timers.tick(ms);
  };
  return { advance, delays: () => set.mock.calls.map((call) => call.arguments[1] ?? 0) };
}

void t.test('a deadline further away than a timer goes is still met', (t) => {
  const { advance, delays } = takeClock(t);
  let calls = 0;
  const year = 365 * 24 * 3600 * 1000;
  const timer = new DeadlineTimer(performance.now() + year, () => {
    calls += 1;
  });
  const day = 24 * 3600 * 1000;
  for (let n = 0; n < 364; n += 1) advance(day);
  advance(day - 1);
  t.equal(calls, 0);
  advance(1);
  t.equal(calls, 1);
  advance(day);
  t.equal(calls, 1, 'once');
  t.ok(delays().length > 1 && Math.max(...delays()) < 2 ** 31, 'Node makes a longer delay 1 ms');
  timer[Symbol.dispose]();
  t.end();
});

void t.test('a deadline is never early, and a disposed one never comes', (t) => {
  const { advance } = takeClock(t);
  const calls: string[] = [];
  const timer = new DeadlineTimer(performance.now() + 1.5, () => calls.push('fraction'));
  const disposed = new DeadlineTimer(performance.now() + 1, () => calls.push('disposed'));
  disposed[Symbol.dispose]();
  advance(1);
  t.same(calls, []);
  advance(1);
  t.same(calls, ['fraction']);
  timer[Symbol.dispose]();
  t.end();
});

void t.test('a deadline in the past comes in the next turn, not at once', (t) => {
  const { advance } = takeClock(t);
  let calls = 0;
  const timer = new DeadlineTimer(0, () => {
    calls += 1;
  });
  t.equal(calls, 0);
  advance(1);
  t.equal(calls, 1);
  timer[Symbol.dispose]();
  t.end();
});
