import type { Config } from '../core/config.ts';
import { VmError } from '../core/errors.ts';
import { absentIs } from '../host/absent-is.ts';
import type { Host } from '../host/host.ts';
import type { Native } from '../host/native.ts';
import { isAlive } from '../host/process-identity.ts';
import { openFlags } from '../host/open-flags.ts';
import { parseBaseName } from '../storage/base-identity.ts';
import { isClaimed } from '../storage/claim-disk.ts';
import { keptBaseName } from '../storage/kept-base.ts';
import { readOverlayFile } from '../storage/root-overlay.ts';
import { readAllRecords, type RecordEntry } from './all-records.ts';
import type { NodeFacts, PodDisks, RecordFact, StoredFile } from './garbage.ts';
import { BASE_REFERENCE } from './root-files.ts';

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = openFlags;

interface Deps {
  readonly host: Host;
  readonly native: Pick<Native, 'flock'>;
}

/** What kubelet has; its directory is proof of nothing where it is not there. */
export function readKubelet(host: Host, kubeletDir: string): NodeFacts['kubelet'] {
  const path = `${kubeletDir}/pods`;
  if (host.inspect(path)?.kind !== 'directory') return { absent: path };
  return { pods: new Set(host.listDir(path)) };
}

export function readRecordFacts(host: Host, stateDir: string): RecordFact[] {
  return readAllRecords(host, stateDir).map(({ runDir, record }) => ({
    runDir,
    bytes: treeOf(host, runDir).bytes,
    changedAt: treeOf(host, runDir).changedAt,
    state: recordState(host, record),
  }));
}

function recordState(host: Host, record: RecordEntry['record']): RecordFact['state'] {
  if (record === undefined) return { t: 'none' };
  if (VmError.is(record)) return { t: 'unreadable', error: record };
  const { id, namespace, name, podUid, rootDisk, bootId, shim, qemu, orphan } = record;
  const lives = (process: typeof shim): boolean =>
    process !== undefined && isAlive(host, { ...process, bootId });
  const alive = lives(shim) ? 'shim' : lives(qemu) ? 'QEMU' : undefined;
  const vm = `VM "${name}" (${namespace}/${id})`;
  return { t: 'vm', vm, namespace, id, podUid, rootDisk, alive, orphan: orphan !== undefined };
}

/** Directories of pods' disks, one per pod UID. */
export function readPodDisks(deps: Deps, { dataDir }: Pick<Config, 'dataDir'>): PodDisks[] {
  const { host } = deps;
  const pods = `${dataDir}/pods`;
  return list(host, pods).map((uid) => {
    const path = `${pods}/${uid}`;
    try {
      const containers = list(host, path).map((container) => readDisks(deps, `${path}/${container}`));
      return {
        uid,
        path,
        ...treeOf(host, path),
        claimed: containers.some(({ claimed }) => claimed),
        bases: containers.flatMap(({ bases }) => bases),
        unreadable: undefined,
      };
    } catch (error) {
      const unreadable = VmError.from(error).message;
      return { uid, path, bytes: 0, changedAt: 0, claimed: false, bases: [], unreadable };
    }
  });
}

/** Bases that disks kept by name need. @throws VmError for one that cannot be read. */
export function readKeptDiskBases(deps: Deps, { dataDir }: Pick<Config, 'dataDir'>): string[] {
  const { host } = deps;
  const below = (path: string): string[] => list(host, path).map((name) => `${path}/${name}`);
  const directories = below(`${dataDir}/kept`).flatMap(below).flatMap(below);
  return directories.flatMap((directory) => readDisks(deps, directory).bases);
}

interface Disks {
  readonly claimed: boolean;
  readonly bases: readonly string[];
}

/** One container's directory. */
function readDisks({ host, native }: Deps, directory: string): Disks {
  const overlay = `${directory}/root.qcow2`;
  const reference = `${directory}/${BASE_REFERENCE}`;
  const bases: string[] = [];
  let claimed = false;
  if (host.inspect(reference) !== undefined) {
    const text = host.readText(reference).trim();
    const identity = parseBaseName(text);
    if (identity === undefined) throw new VmError('Internal', `"${reference}" does not name a base image`);
    bases.push(keptBaseName({ identity, format: 'qcow2' }), keptBaseName({ identity, format: 'raw' }));
  }
  if (host.inspect(overlay) !== undefined) {
    bases.push(keptBaseName(readOverlayFile(host, overlay)));
    using file = host.open(overlay, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    claimed = isClaimed(native, file);
  }
  return { claimed, bases };
}

/** Entries of a directory of ours, each with all that is below it. */
export function readStored(host: Host, directory: string): StoredFile[] {
  return list(host, directory).flatMap((name) => {
    const path = `${directory}/${name}`;
    return host.inspect(path) === undefined ? [] : [{ name, path, ...treeOf(host, path) }];
  });
}

/** Size and last change of a file or a tree. Links made to a file count as a change of it. */
function treeOf(host: Host, path: string): { readonly bytes: number; readonly changedAt: number } {
  const info = host.inspect(path);
  if (info === undefined) return { bytes: 0, changedAt: 0 };
  const below =
    info.kind === 'directory' ? list(host, path).map((name) => treeOf(host, `${path}/${name}`)) : [];
  return {
    bytes: below.reduce((sum, { bytes }) => sum + bytes, info.kind === 'file' ? info.size : 0),
    changedAt: Math.max(info.changedMs, ...below.map(({ changedAt }) => changedAt)),
  };
}

function list(host: Host, path: string): string[] {
  return absentIs<string[]>([], () => host.listDir(path));
}
