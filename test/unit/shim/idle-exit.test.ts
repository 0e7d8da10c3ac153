import { mock } from 'node:test';
import t from 'tap';
import { IdleExit, idleMs } from '../../../src/shim/idle-exit.ts';

void t.test('it fires once after the whole time without a task', (t) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  let fired = 0;
  const idle = new IdleExit(() => fired++, 1000);
  idle.arm();
  mock.timers.tick(999);
  idle.arm();
  mock.timers.tick(999);
  t.equal(fired, 0, 'armed anew');
  idle.cancel();
  mock.timers.tick(5000);
  t.equal(fired, 0, 'canceled');
  idle.cancel();
  idle.arm();
  mock.timers.tick(1000);
  mock.timers.tick(5000);
  t.equal(fired, 1);
  t.end();
});

void t.test('the time', (t) => {
  t.equal(idleMs({}), 30_000);
  t.equal(idleMs({ VMSHIM_IDLE_MS: '250' }), 250);
  for (const odd of ['', '0', '-1', 'x', '1.5', 'Infinity'])
    t.equal(idleMs({ VMSHIM_IDLE_MS: odd }), 30_000, odd);
  t.end();
});
