import { VmError } from '../core/errors.ts';
import { formatBytes } from '../core/quantity.ts';
import { loadNative } from '../host/native.ts';
import { collectGarbage, findGarbage, type GarbageRequest } from '../vm/collect-garbage.ts';
import type { Garbage, KnownContainer, NodeFacts } from '../vm/garbage.ts';
import { replaceKeepers } from '../vm/spawn-keeper.ts';
import { type Command, parseCommandLine, UsageError } from './command.ts';
import { renderTable } from './table.ts';

const DEFAULT_ADDRESS = '/run/containerd/containerd.sock';
/** For all questions to containerd together. */
const ANSWER_MS = 20_000;
const UNITS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

export const gcCommand: Command = {
  name: 'gc',
  usage: '[--dry-run] [--grace TIME] [--all] [--json] [--pods FILE] [--address SOCKET]',
  summary: 'remove disks and directories that belong to nobody',
  details: `Removes what no pod, no container and no VM of this node can need any more: disks of pods, base images below
them, directories and logs of VMs that are gone. A pod's disks go only when kubelet has no directory of the pod,
containerd has no container of it, no VM's record names them and nothing in them changed within the grace. What
cannot be proved orphaned is kept, and the reason is told. A guest that waits for a shim gets a new keeper where its
own is gone. Disks kept by a pod's name are never removed.

  vmctl gc --dry-run
  vmctl gc --grace 24h`,
  options: [
    { flag: '--dry-run', text: 'only tell what would be removed' },
    { flag: '--grace TIME', text: 'keep what changed within this time, such as 30m, 1h (default) or 7d' },
    { flag: '--all', text: 'tell also what is kept because it is in use' },
    { flag: '--json', text: 'one JSON array of everything instead of a table' },
    { flag: '--pods FILE', text: 'keep the disks of these pods in any case: a file of UIDs, one per line' },
    { flag: '--address SOCKET', text: `containerd's socket (${DEFAULT_ADDRESS}, or CONTAINERD_ADDRESS)` },
  ],
  takesVm: false,
  async run(args, { host, config, signal, print }) {
    const { values, positionals } = parseCommandLine(args, {
      'dry-run': { type: 'boolean' },
      grace: { type: 'string' },
      all: { type: 'boolean' },
      json: { type: 'boolean' },
      pods: { type: 'string' },
      address: { type: 'string' },
    });
    if (positionals.length > 0) throw new UsageError('gc takes no names; what it removes it finds itself');
    const address = values.address ?? process.env['CONTAINERD_ADDRESS'] ?? DEFAULT_ADDRESS;
    const request: GarbageRequest = {
      config: config(),
      graceMs: parseGrace(values.grace ?? '1h'),
      containers: await askContainers(address, signal),
      existing: values.pods === undefined ? new Set() : readUids(host.readText(values.pods)),
      onWait: () => void process.stderr.write('waiting for a VM that is being made …\n'),
    };
    const deps = { host, native: loadNative() };
    const dry = values['dry-run'] === true;
    const warn = (sentence: string): void => void process.stderr.write(`${sentence}\n`);
    if (!dry) await replaceKeepers(host, request.config.stateDir, warn, signal);
    const found = dry ? findGarbage(deps, request) : await collectGarbage(deps, request, signal);
    if (values.json === true) print(`${JSON.stringify(found.map(flat), null, 2)}\n`);
    else print(describe(found, dry, values.all === true));
    return 0;
  },
};

function parseGrace(text: string): number {
  const [, amount, unit = ''] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const ms = UNITS[unit];
  if (amount === undefined || ms === undefined)
    throw new UsageError(`--grace is "${text}"; give a number and s, m, h or d, such as 1h`);
  return Number(amount) * ms;
}

function readUids(text: string): ReadonlySet<string> {
  return new Set(
    text
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== ''),
  );
}

/** containerd that does not answer proves nothing, and only what needs no proof of it is removed then. */
async function askContainers(address: string, signal: AbortSignal): Promise<NodeFacts['containers']> {
  try {
    return await listAllContainers(address, AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]));
  } catch (error) {
    if (signal.aborted || !VmError.is(error)) throw error;
    return { unknown: error.message };
  }
}

async function listAllContainers(address: string, signal: AbortSignal): Promise<KnownContainer[]> {
  const [{ ContainerdClient }, { listContainers, listNamespaces }] = await Promise.all([
    import('./containerd-client.ts'),
    import('./containerd-containers.ts'),
  ]);
  using client = new ContainerdClient({ address, namespace: 'default' });
  const known: KnownContainer[] = [];
  for (const namespace of await listNamespaces(client, { signal })) {
    using inside = new ContainerdClient({ address, namespace });
    for (const { id, labels, spec } of await listContainers(inside, { signal }))
      known.push({ namespace, id, text: `${JSON.stringify(labels)}\n${spec}` });
  }
  return known;
}

function flat({ kind, path, bytes, verdict }: Garbage): object {
  return { action: verdict.t, kind, path, bytes, why: verdict.why };
}

function describe(found: readonly Garbage[], dry: boolean, all: boolean): string {
  const shown = found.filter(({ verdict }) => verdict.t === 'remove' || verdict.notable || all);
  const removed = found.filter(({ verdict }) => verdict.t === 'remove');
  const bytes = removed.reduce((sum, item) => sum + item.bytes, 0);
  const table = renderTable(
    ['ACTION', 'WHAT', 'SIZE', 'PATH', 'WHY'],
    shown.map(({ kind, path, bytes: size, verdict }) => [
      verdict.t,
      kind,
      formatBytes(size),
      path,
      verdict.why,
    ]),
  );
  const summary = `${dry ? 'would remove' : 'removed'} ${removed.length} of ${found.length}, ${formatBytes(bytes)}\n`;
  return shown.length === 0 ? summary : table + summary;
}
