/**
 * What the guest has flushed survives everything short of deleting the pod. Every fault comes once, in an order and at
 * moments that a seed decides; test/chaos goes on for longer.
 */
import t from 'tap';
import { runDataDrill } from '../support/chaos/data-drill.ts';
import { faults } from '../support/chaos/faults.ts';

void t.test('a guest finds what it had flushed, whatever happened to the node', async (t) => {
  const rounds = Object.keys(faults).length;
  const report = await runDataDrill(t, { seed: 4, rounds }, (line) => t.comment(line));
  t.equal(Object.keys(report.faults).length, rounds);
  t.comment(`${report.flushed} generations flushed, ${report.leaked} clusters leaked`);
});
