/**
 * Gives every parser of untrusted input a million inputs, or as many as are asked for:
 *
 *     npm run fuzz -- [--inputs N] [--seconds N] [--seed S] [--only TARGET] [--from I]
 *
 * `--seconds` is for each target. The same seed gives the same inputs; `--from I --inputs 1` repeats one that failed. Exit
 * status 1 when something failed.
 */
import { parseArgs } from 'node:util';
import { runTarget } from './run-target.ts';
import { fuzzTargets } from './targets.ts';

const { values } = parseArgs({
  options: {
    inputs: { type: 'string' },
    seconds: { type: 'string' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    only: { type: 'string', default: '' },
    from: { type: 'string', default: '0' },
  },
});
const bounded = values.seconds !== undefined || values.inputs !== undefined;
const limits = {
  seed: Number(values.seed),
  inputs: values.inputs === undefined ? (bounded ? Infinity : 1_000_000) : Number(values.inputs),
  seconds: Number(values.seconds ?? Infinity),
  from: Number(values.from),
};
if (
  ![limits.seed, limits.from].every(Number.isSafeInteger) ||
  !(limits.inputs > 0) ||
  !(limits.seconds > 0)
) {
  console.error('usage: npm run fuzz -- [--inputs N] [--seconds N] [--seed S] [--only TARGET] [--from I]');
  process.exit(2);
}

let failed = false;
for (const target of fuzzTargets().filter(({ name }) => name.includes(values.only))) {
  const { inputs, accepted, refused, seconds, failures } = await runTarget(target, limits);
  const rss = Math.round(process.memoryUsage().rss / 2 ** 20);
  console.log(
    `${failures.length === 0 ? 'ok    ' : 'not ok'} ${target.name.padEnd(14)} ${inputs} inputs, ${accepted} accepted, ${refused} refused, ${seconds.toFixed(0)} s, ${rss} MiB, seed ${limits.seed}`,
  );
  for (const failure of failures) console.log(`  ${failure.replaceAll('\n', '\n  ')}`);
  failed ||= failures.length > 0;
}
process.exitCode = failed ? 1 : 0;
