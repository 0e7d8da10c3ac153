import { VmError } from '../../core/errors.ts';
import type { Host } from '../../host/host.ts';
import { at, textAt } from '../kube/json.ts';
import type { VmView } from '../vms/vm-view.ts';

export interface CollectorParts {
  readonly host: Host;
  /** The command `vmctl`, with what runs it: what it needs of memory is gone with it. */
  readonly vmctl: readonly string[];
  /** Its environment, for VMSHIM_CONFIG. */
  readonly env: Readonly<Record<string, string>>;
  readonly kubeletDir: string;
  /** containerd's socket; undefined for vmctl's default. */
  readonly containerd: string | undefined;
  readonly graceMs: number;
  /** The pods of this node by a consistent read. @throws VmError when there is none. */
  readonly listUids: (signal: AbortSignal) => Promise<ReadonlySet<string>>;
  readonly vms: () => readonly VmView[];
}

export interface Collected {
  /** What was removed. */
  readonly count: number;
  readonly bytes: number;
  /** Disks are left of pods that are gone, which may go later. */
  readonly more: boolean;
}

const RUN_MS = 10 * 60_000;
const OUTPUT_BYTES = 64 << 20;
/** Any directory that is in memory or on disk: the file has no name. */
const SCRATCH = '/tmp';

/**
 * Removes what belongs to pods that the API server says are gone, and that neither kubelet, containerd nor our own records
 * know: the rules are `vmctl gc`'s. Nothing is removed while any of them cannot be asked.
 * @throws VmError with what was missing for the proof.
 */
export async function collectOrphans(parts: CollectorParts, signal: AbortSignal): Promise<Collected> {
  const { host, vmctl, env, graceMs, containerd } = parts;
  expectOwnProcesses(parts.vms());
  const existing = await parts.listUids(signal);
  expectOwnNode(host, parts.kubeletDir, existing);
  using list = host.temporaryFile(SCRATCH, 0o600);
  host.writeBytes(list.fd, 0, Buffer.from([...existing].map((uid) => `${uid}\n`).join('')));
  const [file = '', ...args] = vmctl;
  const { stdout } = await host.exec(
    file,
    [
      ...[...args, 'gc', '--json', '--grace', `${Math.ceil(graceMs / 1000)}s`, '--pods', '/proc/self/fd/3'],
      ...(containerd === undefined ? [] : ['--address', containerd]),
    ],
    {
      env,
      fds: [list.fd],
      maxOutput: OUTPUT_BYTES,
      signal: AbortSignal.any([signal, AbortSignal.timeout(RUN_MS)]),
    },
  );
  return summarize(stdout, existing);
}

/**
 * Whether a VM lives is told by its process. In a container without the node's processes every VM would look dead; that a
 * shim answers which cannot be seen proves it.
 */
function expectOwnProcesses(vms: readonly VmView[]): void {
  const unseen = vms.find((view) => view.t === 'answers' && view.vm.alive !== 'shim');
  if (unseen === undefined) return;
  throw new VmError(
    'FailedPrecondition',
    `the shim of VM "${unseen.vm.name}" answers but its process cannot be seen; run the agent with the node's processes (hostPID: true)`,
  );
}

/**
 * A node's name that is wrong would make all of its pods look gone. Where kubelet has none, as on a node that was set up anew and
 * kept its data directory, nothing says that it is right.
 */
function expectOwnNode(host: Host, kubeletDir: string, existing: ReadonlySet<string>): void {
  const here = host.listDir(`${kubeletDir}/pods`);
  if (here.some((uid) => existing.has(uid))) return;
  throw new VmError(
    'FailedPrecondition',
    here.length === 0
      ? `there are no pods in ${kubeletDir}/pods yet that would prove --node-name right`
      : `none of the ${here.length} pods in ${kubeletDir}/pods is one that the API server has for this node; is --node-name right?`,
  );
}

function summarize(stdout: string, existing: ReadonlySet<string>): Collected {
  let items: unknown;
  try {
    items = JSON.parse(stdout);
  } catch (cause) {
    throw new VmError('Internal', '"vmctl gc --json" printed no JSON', { cause });
  }
  if (!Array.isArray(items)) throw new VmError('Internal', '"vmctl gc --json" printed no list');
  const all = items as unknown[];
  const removed = all.filter((item) => at(item, 'action') === 'remove');
  const bytes = removed.map((item) => at(item, 'bytes'));
  return {
    count: removed.length,
    bytes: bytes.reduce<number>((sum, size) => sum + (typeof size === 'number' ? size : 0), 0),
    more: all.some((item) => isOrphan(item, existing)),
  };
}

function isOrphan(item: unknown, existing: ReadonlySet<string>): boolean {
  if (at(item, 'action') === 'remove' || at(item, 'kind') !== 'pod disks') return false;
  const path = textAt(item, 'path') ?? '';
  return !existing.has(path.slice(path.lastIndexOf('/') + 1));
}
