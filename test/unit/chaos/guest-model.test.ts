import t from 'tap';
import {
  countStart,
  expectBoots,
  type GuestModel,
  hear,
  type Judgement,
  NEW_GUEST,
  parseSaid,
  settle,
} from '../../support/chaos/guest-model.ts';

/** Lines of a guest, one after the other. */
function hearAll(model: GuestModel, ...lines: string[]): Judgement {
  let judgement: Judgement = { model, violations: [] };
  for (const line of lines) {
    const said = parseSaid(line);
    if (said === undefined) continue;
    const next = hear(judgement.model, said);
    judgement = { model: next.model, violations: [...judgement.violations, ...next.violations] };
  }
  return judgement;
}

/** A guest in its first boot, with five generations flushed. */
function running(): GuestModel {
  const { model } = hearAll(
    countStart(NEW_GUEST),
    'vmguest# journal holds 0 boot 1 blocks 0 =0',
    'flushed 1 boot 1 =1',
    'flushed 5 boot 1 =5',
  );
  return settle(model).model;
}

void t.test('a line that lost a part on its way is none', (t) => {
  t.equal(parseSaid('flushed 12 boot 1 =1'), undefined);
  t.equal(parseSaid('flushed 1flushed 2 boot 1 =2'), undefined);
  t.same(parseSaid('flushed 12 boot 3 =12'), { t: 'flushed', generation: 12, boot: 3 });
  t.end();
});

void t.test('a first boot', (t) => {
  const heard = hearAll(countStart(NEW_GUEST), 'journal holds 0 boot 1 blocks 0 =0', 'flushed 1 boot 1 =1');
  t.same(heard.violations, []);
  t.same(settle(heard.model).violations, []);
  t.end();
});

void t.test('nothing is lost: a boot finds what was flushed, or more', (t) => {
  const model = countStart(expectBoots(running(), 'must'));
  const more = hearAll(model, 'journal holds 6 boot 2 blocks 48 =6', 'flushed 7 boot 2 =7');
  t.same(more.violations, []);
  t.same(settle(more.model).violations, []);
  t.equal(more.model.verified, 48 * 4096);
  t.match(hearAll(model, 'journal holds 4 boot 2 blocks 32 =4').violations, [/data is lost/]);
  t.match(hearAll(model, 'flushed 5 boot 2 =5').violations, [/data is lost/], 'also when the first line is');
  t.match(hearAll(model, 'journal holds 5 boot 1 blocks 40 =5').violations, [/an older one/]);
  t.match(hearAll(model, 'journal BAD: slot 8 has wrong checksum').violations, [/data is lost/]);
  t.end();
});

void t.test('a guest does not boot by itself', (t) => {
  const model = running();
  t.match(hearAll(model, 'journal holds 5 boot 2 blocks 40 =5').violations, [/nothing was done/]);
  t.match(hearAll(model, 'flushed 6 boot 2 =6').violations, [/nothing was done/]);
  t.match(hearAll(model, 'journal failed: flush of generation 6: Input/output error').violations, [/failed/]);
  t.same(hearAll(expectBoots(model, 'may'), 'journal failed: flush of generation 6').violations, []);
  t.same(hearAll(countStart(model), 'flushed 3 boot 1 =3', 'flushed 6 boot 1 =6').violations, []);
  t.end();
});

void t.test('it boots as often as it was started', (t) => {
  const model = countStart(expectBoots(running(), 'must'));
  t.match(settle(hearAll(model, 'flushed 6 boot 1 =6').model).violations, [/should have ended/]);
  const twice = hearAll(model, 'journal holds 5 boot 2 blocks 40 =5', 'journal holds 5 boot 3 blocks 40 =5');
  t.match(settle(twice.model).violations, [/booted 2 times and was started 1 times/]);
  t.same(settle(countStart(twice.model)).violations, []);
  t.end();
});

void t.test('what may boot it need not; what must outweighs what may', (t) => {
  t.same(settle(hearAll(expectBoots(running(), 'may'), 'flushed 6 boot 1 =6').model).violations, []);
  t.equal(expectBoots(expectBoots(running(), 'must'), 'never').boots, 'must');
  t.equal(expectBoots(expectBoots(running(), 'may'), 'must').boots, 'must');
  t.end();
});
