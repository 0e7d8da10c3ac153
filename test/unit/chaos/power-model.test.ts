import t from 'tap';
import {
  anew,
  apply,
  applyPerhaps,
  effectOf,
  type Power,
  POWER,
  POWER_VERBS,
} from '../../support/chaos/power-model.ts';

const of = (...powers: Power[]) => new Set(powers);

void t.test('a VM that is off is booted by a start alone, and by another pod', (t) => {
  for (const boots of ['never', 'may', 'must'] as const)
    t.same(apply(of('off'), effectOf(boots)), { powers: of('off'), boots: 'never' });
  for (const verb of POWER_VERBS) {
    const expected =
      verb === 'start' ? { powers: of('on'), boots: 'must' } : { powers: of('off'), boots: 'never' };
    t.same(apply(of('off'), POWER[verb]), expected, verb);
  }
  t.same(apply(of('off', 'paused'), anew), { powers: of('on'), boots: 'must' });
  t.end();
});

void t.test('a pause ends with its QEMU, or by being asked', (t) => {
  t.same(apply(of('paused'), effectOf('never')), { powers: of('paused'), boots: 'never' });
  t.same(apply(of('paused'), effectOf('must')), { powers: of('on'), boots: 'must' });
  t.same(apply(of('paused'), effectOf('may')), { powers: of('on', 'paused'), boots: 'may' });
  t.same(apply(of('paused'), POWER.start), { powers: of('paused'), boots: 'never' });
  t.same(apply(of('paused'), POWER.resume), { powers: of('on'), boots: 'never' });
  t.same(apply(of('paused'), POWER.reset), { powers: of('on'), boots: 'must' });
  t.end();
});

void t.test('what is cut short may have happened or not', (t) => {
  t.same(applyPerhaps(of('on'), POWER.stop), { powers: of('on', 'off'), boots: 'never' });
  t.same(applyPerhaps(of('on'), POWER.reset), { powers: of('on'), boots: 'may' });
  t.same(apply(of('on', 'off'), effectOf('must')), { powers: of('on', 'off'), boots: 'may' });
  t.end();
});
