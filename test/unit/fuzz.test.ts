/** A short run of the fuzzers, the same every time; `npm run fuzz` is the long one. */
import t from 'tap';
import { runTarget } from '../fuzz/run-target.ts';
import { fuzzTargets } from '../fuzz/targets.ts';

for (const target of fuzzTargets()) {
  void t.test(`${target.name}: ${target.about}`, async (t) => {
    const { inputs, accepted, failures } = await runTarget(target, {
      seed: 1,
      inputs: 2000,
      seconds: Infinity,
    });
    t.strictSame(failures, []);
    t.equal(inputs, 2000);
    // A generator whose inputs are all refused at the door tests the door alone.
    t.ok(accepted > 100, `${accepted} of ${inputs} are accepted`);
  });
}
