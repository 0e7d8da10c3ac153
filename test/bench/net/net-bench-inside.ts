import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { networkLabHere } from '../../support/network-lab.ts';
import { BenchScope } from '../bench-scope.ts';
import { measureCni } from './cni-time.ts';
import { LAYOUTS } from './layouts.ts';
import { figures, type NetResults, table } from './net-report.ts';
import { measureTraffic } from './measure-traffic.ts';

/** The bench itself; test/bench/net-bench.ts runs it in namespaces of its own. */
const { values } = parseArgs({
  options: { json: { type: 'string' }, quick: { type: 'boolean', default: false } },
});
// Until now it shows the machine's links.
execFileSync('mount', ['-t', 'sysfs', 'sysfs', '/sys']);

const loadBefore = loadavg()[0] ?? 0;
const results: NetResults = await (async () => {
  await using scope = new BenchScope();
  const bench = { scope, lab: networkLabHere() };
  const plan = values.quick
    ? { rounds: 1, seconds: 1, streams: [1], trips: 300, cniRounds: 5 }
    : { rounds: 4, seconds: 1, streams: [1, 4], trips: 1000, cniRounds: 20 };
  const layouts = LAYOUTS.filter(({ long = false }) => !(values.quick && long));
  const cni = measureCni(scope, plan.cniRounds);
  return { cni, traffic: await measureTraffic(bench, layouts, plan), layouts, loadBefore };
})();
process.stdout.write(`${table(results)}\n`);
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(figures(results), null, 2)}\n`);
