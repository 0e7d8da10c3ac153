/**
 * A node with three VMs to which one thing after another happens, often two at once, in an order that a seed decides, and after
 * each of them what must hold is judged (test/support/chaos/guest-model.ts, exit-ledger.ts):
 *
 *     npm run chaos -- --seconds N [--seed S] [--json FILE]
 */
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { runChaos } from '../support/chaos/chaos-run.ts';

const seed = Number(process.env['VMSHIM_CHAOS_SEED'] ?? Math.floor(Date.now() / 1000));
const seconds = Number(process.env['VMSHIM_CHAOS_SECONDS'] ?? 60);
const file = process.env['VMSHIM_CHAOS_JSON'];

void t.test(`${seconds} s of chaos, seed ${seed}`, async (t) => {
  // Said at once: a run may take hours.
  const say = (line: string): void => void process.stderr.write(`# ${line}\n`);
  say(`seed ${seed}`);
  const report = await runChaos(t, { seed, seconds, vms: 3 }, say);
  if (file !== undefined) writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
  say(JSON.stringify(report));
  t.same(report.findings, [], `to repeat: npm run chaos -- --seconds ${seconds} --seed ${seed}`);
  t.ok(report.actions > 0);
  t.ok(report.bytes_verified > 0);
});
