/**
 * The same as test/integration/data-safety.test.ts for hundreds of faults, at other moments every night:
 *
 *     npm run chaos -- [--seed N] [--rounds M] [--json FILE]
 *
 * Two VMs, each on a node of its own, run beside each other. A failure says how it is repeated. The file has an object for
 * each of them, and is written anew after each round: whoever ends a run early has the figures until then.
 */
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { type DrillReport, runDataDrill } from '../support/chaos/data-drill.ts';

const seed = Number(process.env['VMSHIM_CHAOS_SEED'] ?? Math.floor(Date.now() / 1000));
const rounds = Number(process.env['VMSHIM_CHAOS_ROUNDS'] ?? 120);
const file = process.env['VMSHIM_CHAOS_JSON'];
const LANES = 2;
const reports: DrillReport[] = [];

t.jobs = LANES;
for (let lane = 0; lane < LANES; lane++) {
  void t.test(`${rounds} faults, seed ${seed + lane}`, { buffered: true }, async (t) => {
    // Said at once: a buffered test's comments come when it has ended.
    const say = (line: string): void => void process.stderr.write(`# lane ${lane}: ${line}\n`);
    const note = (report: DrillReport): void => {
      reports[lane] = report;
      if (file !== undefined) writeFileSync(file, `${JSON.stringify(reports.filter(Boolean), null, 2)}\n`);
    };
    const report = await runDataDrill(t, { seed: seed + lane, rounds }, say, note);
    const came = Object.values(report.faults).reduce((sum, count) => sum + count, 0);
    t.equal(came, rounds);
    t.comment(`${report.flushed} generations flushed, ${report.leaked} clusters leaked`);
  });
}
