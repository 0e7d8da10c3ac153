import type { VmError } from '../core/errors.ts';

/** What garbage collection looks at. */
export type GarbageKind = 'pod disks' | 'base image' | 'run directory' | 'console logs' | 'draft';

/** `notable` reasons to keep are those somebody should look into. */
export type Verdict =
  | { readonly t: 'remove'; readonly why: string }
  | { readonly t: 'keep'; readonly why: string; readonly notable: boolean };

export interface Garbage {
  readonly kind: GarbageKind;
  readonly path: string;
  readonly bytes: number;
  readonly verdict: Verdict;
}

/** What is true of the node at one moment. Times in milliseconds since the epoch. */
export interface NodeFacts {
  readonly now: number;
  readonly graceMs: number;
  /** The pods that kubelet has a directory of; the path where there is none of its directories at all. */
  readonly kubelet: { readonly pods: ReadonlySet<string> } | { readonly absent: string };
  /** What containerd knows; the reason where it could not be asked. */
  readonly containers: readonly KnownContainer[] | { readonly unknown: string };
  readonly records: readonly RecordFact[];
  /** UIDs of pods that exist whatever this node knows of them; a caller that asked nobody has none. */
  readonly existing: ReadonlySet<string>;
}

export interface KnownContainer {
  readonly namespace: string;
  readonly id: string;
  /** Labels and OCI spec, in which a pod's UID is looked for. */
  readonly text: string;
}

export interface RecordFact {
  readonly runDir: string;
  readonly bytes: number;
  readonly changedAt: number;
  readonly state:
    | { readonly t: 'none' }
    | { readonly t: 'unreadable'; readonly error: VmError }
    | {
        readonly t: 'vm';
        readonly vm: string;
        readonly namespace: string;
        readonly id: string;
        readonly podUid: string | undefined;
        readonly rootDisk: string | undefined;
        readonly alive: 'shim' | 'QEMU' | undefined;
        /** A guest without a shim that waits for the next one. */
        readonly orphan: boolean;
      };
}

/** A pod's directory of disks. */
export interface PodDisks {
  readonly uid: string;
  readonly path: string;
  readonly bytes: number;
  /** When anything in it was last written. */
  readonly changedAt: number;
  /** Whether some process has claimed a disk in it. */
  readonly claimed: boolean;
  /** Bases that its disks need, by their names. */
  readonly bases: readonly string[];
  readonly unreadable: string | undefined;
}

export interface StoredFile {
  readonly name: string;
  readonly path: string;
  readonly bytes: number;
  readonly changedAt: number;
}

const remove = (why: string): Verdict => ({ t: 'remove', why });
const keep = (why: string): Verdict => ({ t: 'keep', why, notable: false });
const lookAt = (why: string): Verdict => ({ t: 'keep', why, notable: true });

/**
 * A pod's disks go when nothing on the node knows the pod any more, and only when all that could know it was asked: what
 * cannot be proved orphaned stays.
 */
export function judgePodDisks(disks: PodDisks, facts: NodeFacts): Verdict {
  const { uid, path, unreadable } = disks;
  if (unreadable !== undefined) return lookAt(unreadable);
  if (disks.claimed) return keep('a VM has it open');
  for (const { runDir, state } of facts.records) {
    if (state.t === 'unreadable') return lookAt(`the record in ${runDir} cannot be read, and may name it`);
    if (state.t === 'vm' && (state.podUid === uid || state.rootDisk?.startsWith(`${path}/`) === true))
      return keep(`the record of ${state.vm} names it`);
  }
  if (facts.existing.has(uid)) return keep('its pod exists');
  if ('unknown' in facts.containers)
    return lookAt(`containerd could not be asked about its pod: ${facts.containers.unknown}`);
  const container = facts.containers.find(({ id, text }) => id === uid || text.includes(uid));
  if (container !== undefined) return keep(`container ${container.namespace}/${container.id} is of its pod`);
  if ('absent' in facts.kubelet)
    return lookAt(
      `there is no ${facts.kubelet.absent}, which would tell whether its pod is still meant to be here`,
    );
  if (facts.kubelet.pods.has(uid)) return keep('kubelet has a directory of its pod');
  return young(disks, facts) ?? remove('kubelet, containerd and our records know no such pod');
}

/** @param needed names of the bases that disks which stay need; undefined when some disk cannot be read. */
export function judgeBase(
  file: StoredFile,
  needed: ReadonlySet<string> | undefined,
  facts: NodeFacts,
): Verdict {
  if (needed === undefined) return lookAt('a root disk cannot be read, and may need it');
  if (needed.has(file.name)) return keep('a root disk is an overlay over it');
  return young(file, facts) ?? remove('no root disk needs it');
}

/** What a crash left half made. */
export function judgeDraft(file: StoredFile, facts: NodeFacts): Verdict {
  return young(file, facts) ?? remove('it was never completed');
}

/** A VM's volatile directory goes when neither its shim nor its QEMU lives and containerd will not ask for it. */
export function judgeRunDirectory(record: RecordFact, facts: NodeFacts): Verdict {
  const { state } = record;
  if (state.t === 'unreadable') return lookAt(state.error.message);
  if (state.t === 'none') return young(record, facts) ?? remove('it has no record: nothing was made for it');
  const { vm, namespace, id, alive, orphan } = state;
  const container =
    'unknown' in facts.containers
      ? undefined
      : facts.containers.find((known) => known.namespace === namespace && known.id === id);
  if (alive === 'shim') return keep(`the shim of ${vm} runs`);
  if (alive === 'QEMU' && orphan) return keep(`${vm} waits for its next shim, at most until its deadline`);
  if ('unknown' in facts.containers)
    return lookAt(`containerd could not be asked about ${vm}: ${facts.containers.unknown}`);
  if (alive === 'QEMU') {
    return container === undefined
      ? lookAt(`${vm} runs without a shim and without a container of containerd’s`)
      : keep(`${vm} runs`);
  }
  if (container !== undefined) return keep(`containerd has the container of ${vm}`);
  return young(record, facts) ?? remove(`${vm} has ended and containerd does not know it`);
}

/** @param runDirs names of the VM directories that stay. */
export function judgeLogs(file: StoredFile, runDirs: ReadonlySet<string>, facts: NodeFacts): Verdict {
  if (runDirs.has(file.name)) return keep('its VM has a record');
  return young(file, facts) ?? remove('its VM is gone');
}

function young(
  { changedAt }: { readonly changedAt: number },
  { now, graceMs }: NodeFacts,
): Verdict | undefined {
  const age = now - changedAt;
  if (age >= graceMs) return undefined;
  return keep(`it changed ${duration(Math.max(0, age))} ago, within the grace of ${duration(graceMs)}`);
}

function duration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  return seconds < 7200 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h`;
}
