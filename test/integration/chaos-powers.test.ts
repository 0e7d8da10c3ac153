/**
 * VMs are switched off and on, reset, rebooted, paused and resumed, by `vmctl` and by annotations of their pods, while shims,
 * containerd, the node agent and the node die and the API server goes away, in an order that a seed decides; with this seed the
 * agent dies in the middle of a reset. test/chaos/sequence.test.ts does all there is for as long as one likes.
 */
import t from 'tap';
import { type ActionName, runChaos } from '../support/chaos/chaos-run.ts';

const ONLY: readonly ActionName[] = [
  'annotation stop',
  'vmctl start',
  'annotation reset',
  'vmctl reboot',
  'vmctl pause',
  'annotation resume',
  'container restart',
  'kill -9 shim',
  'kill -9 containerd',
  'power cut that leaves nothing volatile',
  'kill -9 agent',
  'the API server goes away',
];

void t.test('what is off stays off, what is paused stays paused, and a reset boots once', async (t) => {
  const plan = { seed: 592, seconds: Infinity, vms: 2, steps: ONLY.length, only: ONLY };
  const report = await runChaos(t, plan, (line) => t.comment(line));
  t.same(report.findings, []);
  t.ok(report.actions >= ONLY.length);
  t.ok(report.bytes_verified > 0);
  t.equal(report.power_requests, 3);
  t.comment(report);
});
