import t from 'tap';
import { planSteps } from '../../support/chaos/chaos-run.ts';
import { Random } from '../../support/chaos/random.ts';

const ALONE = 'delete and create, the agent collects when only the API server knows the pod';

void t.test('who knows less than the API server does not collect garbage while it alone knows a pod', (t) => {
  const steps = planSteps(new Random(32), 3);
  const besides = new Set<string>();
  for (let n = 0; n < 20_000; n++) {
    const step = steps.next().value;
    if (step.name === ALONE && step.besides !== undefined) besides.add(step.besides.name);
  }
  t.ok(besides.has('kill -9 agent'));
  t.notOk(besides.has('vmctl gc'));
  t.notOk(besides.has('images and garbage are collected'));
  t.end();
});

void t.test('a run of few actions, with nothing that could come in the middle of them', (t) => {
  const steps = planSteps(new Random(1), 2, ['kill -9 shim', 'vmctl start']);
  for (let n = 0; n < 100; n++) {
    const { name, besides } = steps.next().value;
    if (name === 'kill -9 shim') t.equal(besides, undefined);
    else t.ok(besides === undefined || besides.name === 'kill -9 shim');
  }
  t.throws(() => planSteps(new Random(1), 2, []), {
    message: /needs at least one action; "only" names none/,
  });
  t.throws(() => planSteps(new Random(1), 0), { message: /needs at least one VM; "vms" is 0/ });
  t.end();
});
