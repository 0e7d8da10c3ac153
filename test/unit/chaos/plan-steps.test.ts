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
