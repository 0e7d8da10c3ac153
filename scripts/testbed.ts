import { readFileSync, writeSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type NodeLimits, nodeShell, runInNode } from './node/boot-node.ts';
import { makeDisks, type NodeDisks } from './node/disks.ts';
import { MINIMAL_CPUS, MINIMAL_MIB, type NodeShape } from './node/plan-node.ts';
import { runFiles } from './node/run-files.ts';
import { tscKhz } from './node/tsc-frequency.ts';

/** See scripts/testbed, which starts this. */
const USAGE = `usage: scripts/testbed run [--init systemd] [--cpus N] [--memory MIB] [--timeout SECONDS] [--silence SECONDS] FILE…
       scripts/testbed boots [N] [--cpus N] [--memory MIB] [--silence SECONDS]
       scripts/testbed shell [--cpus N] [--memory MIB]
       scripts/testbed build`;

/** Only a hung test reaches these seconds: tests wait for events, on machines that differ tenfold. */
const FILE_SECONDS = 3600;
/** Nor these, which are without a line of TAP. */
const SILENT_SECONDS = 600;
/** Nor these, which are without a pulse of the node, on a machine that is busy with other things; its boot is among them. */
const HUNG_SECONDS = 300;

const OUTPUT = {
  out: (text: string): void => void process.stdout.write(text),
  err: (text: string): void => void process.stderr.write(text),
};

class UsageError extends Error {}

async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    options: {
      init: { type: 'string' },
      cpus: { type: 'string' },
      memory: { type: 'string' },
      timeout: { type: 'string' },
      silence: { type: 'string' },
    },
    allowPositionals: true,
  });
  const [action = '', ...operands] = positionals;
  const boots = action === 'boots' ? integer('boots', operands[0] ?? '40', 1) : 0;
  const files = boots > 0 ? ['scripts/node/nested-boots.ts'] : operands;
  const { init } = values;
  if (init !== undefined && (init !== 'systemd' || action !== 'run')) throw new UsageError(USAGE);
  const shape: NodeShape = {
    init,
    cpus: integer('--cpus', values.cpus ?? '2', MINIMAL_CPUS),
    memoryMib: integer('--memory', values.memory ?? '2304', MINIMAL_MIB),
    tscKhz: tscKhz(readFileSync('/proc/cpuinfo', 'utf8')),
  };
  const seconds = integer('--timeout', values.timeout ?? String(FILE_SECONDS), 1);
  const silence = integer('--silence', values.silence ?? String(SILENT_SECONDS), 1);
  const takes = {
    run: files.length > 0,
    boots: operands.length <= 1,
    shell: files.length === 0,
    build: files.length === 0,
  };
  if (!(action in takes) || !takes[action as keyof typeof takes]) {
    throw new UsageError(USAGE);
  }
  const disksOf = async (some: readonly string[]): Promise<NodeDisks> =>
    await makeDisks({ files: some, seconds, silence, boots });
  const limits = (): NodeLimits => ({ signal: stopSignal(), silence: HUNG_SECONDS });
  if (action === 'run') return await runFiles(shape, files, disksOf, limits(), OUTPUT);
  using disks = await disksOf(files);
  switch (action) {
    case 'build':
      return 0;
    case 'shell':
      return await nodeShell(shape, disks);
    default:
      return await runInNode(shape, disks, limits(), OUTPUT);
  }
}

/** Aborts when somebody wants us to end. */
function stopSignal(): AbortSignal {
  const ended = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(name, () => ended.abort(new Error(`ended by ${name}`)));
  }
  return ended.signal;
}

function integer(option: string, text: string, least: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= least) return value;
  throw new UsageError(`${option} "${text}" is not a whole number of at least ${least}`);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  writeSync(2, `scripts/testbed: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
