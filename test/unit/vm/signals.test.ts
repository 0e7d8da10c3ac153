import t from 'tap';
import { signalAction } from '../../../src/vm/signals.ts';

/** signal(7) on x86: what would not end a process. */
const IGNORED = [17, 18, 19, 20, 21, 22, 23, 28];

void t.test('every signal means one thing to a machine', (t) => {
  t.equal(signalAction(0), 'probe');
  t.equal(signalAction(9), 'kill');
  for (let signal = 1; signal <= 64; signal++) {
    if (signal === 9) continue;
    t.equal(signalAction(signal), IGNORED.includes(signal) ? 'ignore' : 'power-button', `signal ${signal}`);
  }
  for (const none of [-1, 65, 1.5, NaN, 2 ** 32]) {
    t.throws(() => signalAction(none), { kind: 'InvalidArgument', message: /must be between 0 and 64/ });
  }
  t.end();
});
