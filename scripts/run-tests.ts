/**
 * Runs test files with tap and ends with one line, `N passed, N failed`, that counts assertions.
 *
 *     node scripts/run-tests.ts unit|integration|chaos|testbed|testbed-systemd|ceph|all [part of a path] [--jobs N]
 *
 * `chaos` also takes `--seed N` to repeat a failure, runs one of its tests only for `--rounds M` (data-safety) or
 * `--seconds N` (sequence), which say for how long, and writes that one's figures to `--json FILE`.
 *
 * Exit status 0 only if something ran and nothing failed. A skipped or to-do test counts as failed.
 */
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { inspect, parseArgs } from 'node:util';
import { Parser, type Result } from 'tap-parser';

const repository = join(import.meta.dirname, '..');

interface Suite {
  /** Seconds per file. Only a hung test reaches it: tests wait for events, on machines that differ tenfold. */
  readonly timeout: number;
  /** Files at a time. Every integration test has a containerd, directories and network namespaces of its own. */
  readonly jobs: number;
}

const suites: Readonly<Record<string, Suite>> = {
  unit: { timeout: 120, jobs: availableParallelism() },
  integration: { timeout: 1800, jobs: availableParallelism() },
  // As many rounds as somebody has time for.
  chaos: { timeout: 12 * 3600, jobs: 1 },
  // Ended by silence long before; see scripts/testbed.ts.
  testbed: { timeout: 3600, jobs: 1 },
  // The same node with systemd as its init.
  'testbed-systemd': { timeout: 3600, jobs: 1 },
  // Needs a Ceph, which scripts/build-ceph unpacks.
  ceph: { timeout: 900, jobs: 1 },
};

/** Tests of the other suites that say something new on the test-bed's node: pure cgroup v2, KVM, vhost-net, a kernel's tc. */
const alsoInTestbed = [
  'test/unit/host/cgroup.test.ts',
  'test/integration/memory-growth.test.ts',
  'test/integration/net-mirror.test.ts',
];

/**
 * What `all` begins the integration tests with, as it takes longest and most of its time waits for guests: ten minutes of chaos, the
 * same ones every time.
 */
const chaosOfAll = { file: 'test/chaos/sequence.test.ts', seed: '1', seconds: '600' };

/** Files of the test-bed that `all` leaves out, for the time they take. */
const onDemand = [
  'test/testbed-systemd/containerd-service.test.ts',
  'test/testbed-systemd/pods-end-in-slices.test.ts',
  'test/testbed-systemd/pods-in-slices.test.ts',
  'test/testbed-systemd/vm-in-scope.test.ts',
];

interface Tally {
  passed: number;
  failed: number;
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: {
      jobs: { type: 'string' },
      seed: { type: 'string' },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      json: { type: 'string' },
    },
    allowPositionals: true,
  });
  const only = values.rounds !== undefined ? 'data-safety' : values.seconds !== undefined ? 'sequence' : '';
  const [kind = '', filter = kind === 'chaos' ? only : ''] = positionals;
  const names = kind === 'all' ? ['unit', 'integration', 'testbed', 'testbed-systemd'] : [kind];
  const jobs = values.jobs === undefined ? undefined : Number(values.jobs);
  if (
    positionals.length > 2 ||
    names.some((name) => !(name in suites)) ||
    !(jobs === undefined || jobs >= 1)
  ) {
    console.error(
      `usage: node scripts/run-tests.ts ${Object.keys(suites).join('|')}|all [part of a path] [--jobs N] [--seed N] [--rounds N | --seconds N] [--json FILE]`,
    );
    return 2;
  }

  const { seed, seconds } = kind === 'all' ? { ...chaosOfAll, ...values } : values;
  if (seed !== undefined) process.env['VMSHIM_CHAOS_SEED'] = seed;
  if (values.rounds !== undefined) process.env['VMSHIM_CHAOS_ROUNDS'] = values.rounds;
  if (seconds !== undefined) process.env['VMSHIM_CHAOS_SECONDS'] = seconds;
  if (values.json !== undefined) process.env['VMSHIM_CHAOS_JSON'] = resolve(values.json);
  const tally: Tally = { passed: 0, failed: 0 };
  for (const name of names) {
    const suite = suites[name];
    const files = (kind === 'all' && name === 'integration' ? [chaosOfAll.file] : [])
      .concat(globSync(`test/${name}/**/*.test.ts`, { cwd: repository }).sort())
      .concat(name === 'testbed' ? alsoInTestbed : [])
      .filter((file) => file.includes(filter))
      .filter((file) => !(kind === 'all' && name.startsWith('testbed') && onDemand.includes(file)));
    if (suite === undefined || files.length === 0) continue;
    const chosen = { ...suite, jobs: jobs ?? suite.jobs };
    const init = name === 'testbed-systemd' ? ['--init', 'systemd'] : [];
    await runTap(
      name.startsWith('testbed') ? testbedCommand(files, chosen, init) : tapCommand(files, chosen),
      tally,
    );
  }
  if (tally.passed + tally.failed === 0) console.log('no test ran');
  console.log(`${tally.passed} passed, ${tally.failed} failed`);
  return tally.passed > 0 && tally.failed === 0 ? 0 : 1;
}

function tapCommand(files: readonly string[], { timeout, jobs }: Suite): string[] {
  return [
    process.execPath,
    join(repository, 'node_modules/.bin/tap'),
    'run',
    '--reporter=tap',
    '--type-strip-only',
    '--disable-coverage',
    '--fail-skip',
    '--fail-todo',
    `--timeout=${timeout}`,
    `--jobs=${jobs}`,
    ...files,
  ];
}

function testbedCommand(files: readonly string[], { timeout }: Suite, init: readonly string[]): string[] {
  return [join(repository, 'scripts/testbed'), 'run', ...init, `--timeout=${timeout}`, ...files];
}

/** Runs a command that prints TAP with a subtest per file, and adds to the tally. */
async function runTap([command = '', ...args]: readonly string[], tally: Tally): Promise<void> {
  const before = tally.failed;
  const tap = spawn(command, args, { cwd: repository, stdio: ['ignore', 'pipe', 'inherit'] });
  const forward = (signal: NodeJS.Signals): void => void tap.kill(signal);
  process.on('SIGTERM', forward).on('SIGINT', forward);

  const parser = report(tally);
  tap.stdout.pipe(parser);
  const [status] = await Promise.all([
    new Promise<string>((resolve, reject) => {
      tap.on('error', reject);
      tap.on('close', (code, signal) => resolve(signal ?? `status ${code}`));
    }),
    new Promise((resolve) => parser.on('complete', resolve)),
  ]);
  process.off('SIGTERM', forward).off('SIGINT', forward);
  if (status !== 'status 0' && tally.failed === before) {
    tally.failed++;
    console.log(`not ok what ran the tests ended with ${status}`);
  }
}

/** A TAP parser that prints one line per file and every failure, and counts assertions. */
function report(tally: Tally): Parser {
  const parser = new Parser();
  const file: Tally = { passed: 0, failed: 0 };
  const fail = (result: Result): void => {
    file.failed++;
    const why = result.skip !== false ? ' (skipped)' : result.todo !== false ? ' (to do)' : '';
    console.log(`\nnot ok ${result.fullname}${why}\n${describe(result.diag)}`);
  };
  // These tell of assertions, and of a test or a file only where it failed by itself (plan, exit status, time-out).
  parser.on('pass', () => file.passed++);
  parser.on('fail', fail).on('skip', fail).on('todo', fail);
  parser.on('extra', (text: string) => process.stdout.write(text));
  parser.on('bailout', (reason: string) => {
    file.failed++;
    console.log(`\nnot ok bail out: ${reason}`);
  });
  // A failure of the file itself is told after the file's own line, so what is known is said when the next one starts.
  let finished: Result | undefined;
  const conclude = (): void => {
    if (finished === undefined) return;
    const word = file.failed === 0 && finished.ok ? 'ok    ' : 'not ok';
    const seconds = ((finished.time ?? 0) / 1000).toFixed(1);
    console.log(`${word} ${finished.name}: ${file.passed} passed, ${file.failed} failed, ${seconds} s`);
    tally.passed += file.passed;
    tally.failed += file.failed;
    file.passed = file.failed = 0;
    finished = undefined;
  };
  parser.on('child', conclude);
  parser.on('assert', (result: Result) => {
    conclude();
    finished = result;
  });
  parser.on('complete', () => {
    conclude();
    tally.failed += file.failed;
  });
  return parser;
}

/** How tap started the file, and what the stack says better. */
const noise = new Set([
  'stdio',
  'cwd',
  'externalID',
  'command',
  'args',
  'jobId',
  'at',
  'source',
  'tapCaught',
]);

/** The diagnostics of a failed assertion, indented, with text that has lines of its own kept as it is. */
function describe(diagnostics: unknown): string {
  if (typeof diagnostics !== 'object' || diagnostics === null) return '';
  const parts: string[] = [];
  for (const [key, value] of Object.entries(diagnostics)) {
    if (noise.has(key)) continue;
    const text = typeof value === 'string' ? value.trimEnd() : inspect(value, { depth: 6, breakLength: 100 });
    parts.push(text.includes('\n') ? `${key}:\n${indent(text)}` : `${key}: ${text}`);
  }
  return indent(parts.join('\n')) + '\n';
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, '    ');
}

process.exitCode = await main();
