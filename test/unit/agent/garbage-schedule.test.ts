import t from 'tap';
import { GarbageSchedule, type Outcome } from '../../../src/agent/garbage/garbage-schedule.ts';

const HOUR = 3_600_000;
const RETRY = 60_000;

/** A schedule whose timers go off when the test says so. */
function make(outcomes: Outcome[]) {
  const timers: { ms: number; callback: () => void; live: boolean }[] = [];
  let runs = 0;
  const collect = (): Promise<Outcome> => {
    runs += 1;
    return Promise.resolve(outcomes.shift() ?? { t: 'done', more: false });
  };
  const schedule = new GarbageSchedule({ graceMs: HOUR, retryMs: RETRY }, collect, (ms, callback) => {
    const timer = { ms, callback, live: true };
    timers.push(timer);
    return { [Symbol.dispose]: () => void (timer.live = false) };
  });
  return {
    schedule,
    runs: () => runs,
    waiting: () => timers.filter(({ live }) => live).map(({ ms }) => ms),
    fire: async () => {
      for (const timer of timers.splice(0)) if (timer.live) timer.callback();
      await new Promise((resolve) => void setImmediate(resolve));
    },
  };
}

void t.test('once when the pods are known, then the grace after a pod has gone, and not else', async (t) => {
  const { schedule, runs, waiting, fire } = make([]);
  t.same(waiting(), []);
  schedule.begin();
  schedule.begin();
  t.same(waiting(), [0]);
  await fire();
  t.equal(runs(), 1);
  t.same(waiting(), []);
  schedule.podGone();
  schedule.podGone();
  t.same(waiting(), [HOUR + 1000]);
  await fire();
  t.equal(runs(), 2);
  t.same(waiting(), []);
  await schedule[Symbol.asyncDispose]();
});

void t.test(
  'what could not be done is tried again, and what is left is looked at when it is older',
  async (t) => {
    const { schedule, waiting, fire } = make([{ t: 'not done' }, { t: 'done', more: true }]);
    schedule.begin();
    await fire();
    t.same(waiting(), [RETRY + 1000]);
    await fire();
    t.same(waiting(), [HOUR + 1000]);
    await fire();
    t.same(waiting(), []);
    schedule.podGone();
    await schedule[Symbol.asyncDispose]();
    t.same(waiting(), [], 'nothing is waited for after the end');
  },
);
