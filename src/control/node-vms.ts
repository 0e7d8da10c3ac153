import type { TaskExit } from '../core/exit.ts';
import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { isAlive } from '../host/process-identity.ts';
import { readAllRecords, type RecordEntry } from '../vm/all-records.ts';
import { readRecord, RECORD_FILE, type PodName, type ProcessMark } from '../vm/record.ts';

/** A VM as its record tells of it, for programs that look after all VMs of a node. */
export interface NodeVm {
  /** Name of its directory. */
  readonly key: string;
  readonly runDir: string;
  /** containerd's namespace and id of its container. */
  readonly namespace: string;
  readonly id: string;
  readonly name: string;
  readonly podUid: string | undefined;
  /** Undefined for no pod, and for a VM that an older version has made. */
  readonly pod: PodName | undefined;
  /** Path below the root of every cgroup hierarchy. */
  readonly cgroup: string;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  readonly controlSocket: string;
  readonly shim: ProcessMark | undefined;
  readonly qemu: ProcessMark | undefined;
  /** Which of its processes lives; both when it is the shim. */
  readonly alive: 'shim' | 'QEMU' | undefined;
  readonly exit: TaskExit | undefined;
}

/** All VMs whose records can be read, in no order. */
export function readNodeVms(host: Host, stateDir: string): NodeVm[] {
  return readAllRecords(host, stateDir).flatMap((entry) => toNodeVm(host, entry) ?? []);
}

/** One of them; undefined when it has no record that can be read. */
export function readNodeVm(host: Host, stateDir: string, key: string): NodeVm | undefined {
  const runDir = `${stateDir}/${key}`;
  try {
    return toNodeVm(host, { runDir, record: readRecord(host, `${runDir}/${RECORD_FILE}`) });
  } catch (error) {
    if (VmError.is(error)) return undefined;
    throw error;
  }
}

function toNodeVm(host: Host, { runDir, record }: RecordEntry): NodeVm | undefined {
  if (record === undefined || VmError.is(record)) return undefined;
  const { namespace, id, name, podUid, pod, cgroup, createdAt, shim, qemu, exit, bootId } = record;
  const lives = (process: ProcessMark | undefined): boolean =>
    process !== undefined && isAlive(host, { ...process, bootId });
  return {
    key: runDir.slice(runDir.lastIndexOf('/') + 1),
    runDir,
    ...{ namespace, id, name, podUid, pod, cgroup, createdAt, shim, qemu, exit },
    controlSocket: `${runDir}/control.sock`,
    alive: lives(shim) ? 'shim' : lives(qemu) ? 'QEMU' : undefined,
  };
}
