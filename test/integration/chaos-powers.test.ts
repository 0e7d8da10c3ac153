/**
 * VMs are switched off and on, reset, rebooted, paused and resumed, while shims, containerd and the node die, in an order that a
 * seed decides; test/chaos/sequence.test.ts does all there is for as long as one likes.
 */
import t from 'tap';
import { type ActionName, runChaos } from '../support/chaos/chaos-run.ts';

const ONLY: readonly ActionName[] = [
  'vmctl stop',
  'vmctl start',
  'vmctl reset',
  'vmctl reboot',
  'vmctl pause',
  'vmctl resume',
  'container restart',
  'kill -9 shim',
  'kill -9 containerd',
  'power cut that leaves nothing volatile',
];

void t.test('what is off stays off, what is paused stays paused, and a reset boots once', async (t) => {
  const plan = { seed: 20, seconds: Infinity, vms: 2, steps: ONLY.length, only: ONLY };
  const report = await runChaos(t, plan, (line) => t.comment(line));
  t.same(report.findings, []);
  t.ok(report.actions >= ONLY.length);
  t.ok(report.bytes_verified > 0);
  t.comment(report);
});
