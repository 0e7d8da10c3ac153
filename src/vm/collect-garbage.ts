import type { Config } from '../core/config.ts';
import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import type { Native } from '../host/native.ts';
import { closeDisks } from '../storage/disk-gate.ts';
import { parseKeptBaseName } from '../storage/kept-base.ts';
import { cleanUpTask } from './clean-up.ts';
import {
  type Garbage,
  judgeBase,
  judgeDraft,
  judgeLogs,
  judgePodDisks,
  judgeRunDirectory,
  type NodeFacts,
} from './garbage.ts';
import {
  readKeptDiskBases,
  readKubelet,
  readPodDisks,
  readRecordFacts,
  readStored,
} from './garbage-facts.ts';
import { RECORD_FILE } from './record.ts';

export interface GarbageRequest {
  readonly config: Pick<Config, 'stateDir' | 'dataDir' | 'kubeletDir'>;
  readonly graceMs: number;
  /** What containerd knows, asked before. */
  readonly containers: NodeFacts['containers'];
  readonly existing: NodeFacts['existing'];
  /** Called when VMs are being made right now and have to be waited for. */
  readonly onWait: () => void;
}

interface Deps {
  readonly host: Host;
  readonly native: Native;
}

const VM_KEY = /^[0-9a-f]{20}$/;

/**
 * Everything of ours on this node, and what would become of it. Nothing is changed; VMs that want a disk wait, since
 * looking whether a disk is claimed claims it for a moment.
 */
export function findGarbage(deps: Deps, request: GarbageRequest): Garbage[] {
  using _gate = closeGate(deps, request);
  return judgeAll(deps, request);
}

function closeGate({ host, native }: Deps, { config, onWait }: GarbageRequest): Disposable {
  host.makeDir(config.dataDir, 0o700);
  return closeDisks(host, native, config.dataDir, onWait);
}

function judgeAll(deps: Deps, { config, graceMs, containers, existing }: GarbageRequest): Garbage[] {
  const { host } = deps;
  const { stateDir, dataDir, kubeletDir } = config;
  const records = readRecordFacts(host, stateDir).filter(({ runDir }) => VM_KEY.test(nameOf(runDir)));
  const facts: NodeFacts = {
    now: Date.now(),
    graceMs,
    kubelet: readKubelet(host, kubeletDir),
    containers,
    records,
    existing,
  };
  const pods = readPodDisks(deps, config).map((disks) => ({ disks, verdict: judgePodDisks(disks, facts) }));
  const needed = neededBases(deps, config, pods);
  const runDirectories = records.map((record) => ({ record, verdict: judgeRunDirectory(record, facts) }));
  const staying = new Set(
    runDirectories.flatMap(({ record, verdict }) => (verdict.t === 'keep' ? [nameOf(record.runDir)] : [])),
  );
  return [
    ...pods.map(({ disks: { path, bytes }, verdict }): Garbage => ({
      kind: 'pod disks',
      path,
      bytes,
      verdict,
    })),
    ...readStored(host, `${dataDir}/bases`).flatMap((file): Garbage[] => {
      const { path, bytes } = file;
      if (file.name.endsWith('.new'))
        return [{ kind: 'draft', path, bytes, verdict: judgeDraft(file, facts) }];
      if (parseKeptBaseName(file.name) === undefined) return [];
      return [{ kind: 'base image', path, bytes, verdict: judgeBase(file, needed, facts) }];
    }),
    ...runDirectories.map(({ record: { runDir: path, bytes }, verdict }): Garbage => ({
      kind: 'run directory',
      path,
      bytes,
      verdict,
    })),
    ...readStored(host, `${dataDir}/vms`)
      .filter(({ name }) => VM_KEY.test(name))
      .map((file): Garbage => {
        const { path, bytes } = file;
        return { kind: 'console logs', path, bytes, verdict: judgeLogs(file, staying, facts) };
      }),
  ];
}

function neededBases(
  deps: Deps,
  config: Pick<Config, 'dataDir'>,
  pods: readonly {
    readonly disks: ReturnType<typeof readPodDisks>[number];
    readonly verdict: Garbage['verdict'];
  }[],
): ReadonlySet<string> | undefined {
  if (pods.some(({ disks }) => disks.unreadable !== undefined)) return undefined;
  try {
    const kept = readKeptDiskBases(deps, config);
    const staying = pods.flatMap(({ disks, verdict }) => (verdict.t === 'keep' ? disks.bases : []));
    return new Set([...kept, ...staying]);
  } catch (error) {
    if (VmError.is(error)) return undefined;
    throw error;
  }
}

/**
 * Removes what `findGarbage` would, judged once more while no VM can make or choose a disk: a pod that came meanwhile has
 * its record by then. Under that lock things only change their names, so VMs wait for a few system calls.
 * @returns what was found then; what could not be removed says so.
 */
export async function collectGarbage(
  deps: Deps,
  request: GarbageRequest,
  signal: AbortSignal,
): Promise<Garbage[]> {
  const { host } = deps;
  const all = `${request.config.dataDir}/trash`;
  const trash = `${all}/${process.pid}`;
  const found: Garbage[] = [];
  let rubbish: string[];
  {
    using _gate = closeGate(deps, request);
    host.makeDir(trash, 0o700);
    // With what a collection left that was killed.
    rubbish = host.listDir(all).map((name) => `${all}/${name}`);
    for (const item of judgeAll(deps, request)) {
      if (item.verdict.t === 'keep') found.push(item);
      else found.push(await attempt(item, () => discard(deps, item, trash, signal)));
    }
  }
  for (const path of rubbish) host.removeTree(path);
  return found;
}

async function discard(
  deps: Deps,
  { kind, path }: Garbage,
  trash: string,
  signal: AbortSignal,
): Promise<void> {
  if (kind === 'run directory') {
    await cleanUpTask(deps, `${path}/${RECORD_FILE}`, signal);
    return;
  }
  deps.host.rename(path, `${trash}/${kind.replaceAll(' ', '-')}-${nameOf(path)}`);
}

async function attempt(item: Garbage, effect: () => Promise<void>): Promise<Garbage> {
  try {
    await effect();
    return item;
  } catch (error) {
    const why = `it could not be removed: ${VmError.from(error).message}`;
    return { ...item, verdict: { t: 'keep', why, notable: true } };
  }
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
