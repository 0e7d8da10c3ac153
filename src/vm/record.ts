import { dirname } from 'node:path';
import { VmError } from '../core/errors.ts';
import type { TaskExit } from '../core/exit.ts';
import { absentIs } from '../host/absent-is.ts';
import type { Host } from '../host/host.ts';
import type { Claim } from '../numa/claim.ts';
import type { NumaPlan } from '../numa/numa-plan.ts';
import type { NicPlan } from './nic-plan.ts';
import type { PowerStatus } from './power-request.ts';
import type { PowerState } from './power-state.ts';

/** Name of the record in a VM's directory. */
export const RECORD_FILE = 'record.json';

/** Raised when a field changes meaning; every older format stays readable. */
export const RECORD_FORMAT = 1;

/**
 * What a VM holds on the host, written before each thing is made, so that clean-up needs neither QMP nor the guest
 * nor the process that wrote it.
 */
export interface VmRecord {
  readonly format: number;
  readonly id: string;
  readonly namespace: string;
  readonly name: string;
  readonly bundle: string;
  /** Identity of the boot that made the volatile parts; another one means they are gone. */
  readonly bootId: string;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  readonly runDir: string;
  /** Found in QEMU's environment (VMSHIM_KEY); names the process between its start and `qemu` being written. */
  readonly key: string;
  /** The container's root file system where we mounted it while opening the image, or undefined. */
  readonly mountPoint: string | undefined;
  /** The VM's cgroup, as a path below the root of every hierarchy. */
  readonly cgroup: string;
  readonly qemu: ProcessMark | undefined;
  readonly shim: ProcessMark | undefined;
  /** The pod whose VM this is: everything in its directory of disks is left alone. */
  readonly podUid: string | undefined;
  /** What else that pod is called; undefined for no pod, absent in records of older versions. */
  readonly pod?: PodName | undefined;
  /** Where the root disk is kept; clean-up never touches it, and garbage collection leaves it alone. */
  readonly rootDisk: string | undefined;
  /** What takes long while the VM is made, for people. */
  readonly progress: string | undefined;
  /** Disks beside the root disk, for people and to tell whose a disk is; clean-up leaves what is not in `runDir`. */
  readonly disks: readonly RecordedDisk[];
  /** Cards of the pod's network; what outlives their TAPs is undone from here. */
  readonly nics: readonly NicPlan[];
  /** What it takes of memory nodes and CPUs; undefined before it has a place, and in records of older versions. */
  readonly numa: NumaRecord | undefined;
  /** Directory of the console log; goes with the task. */
  readonly logDir: string;
  /** The virtiofsds of its shared directories, in their order; absent in records of older versions. */
  readonly shared?: readonly SharedRecord[];
  /** The socket on which the shim serves containerd; outlives a shim that was killed. */
  readonly shimSocket: string | undefined;
  readonly exit: TaskExit | undefined;
  /** How the guest may outlive its shim; undefined where it must not, and in records of older versions. */
  readonly survival: Survival | undefined;
  /** Set while it does. */
  readonly orphan: Orphan | undefined;
  /** Undefined while nobody has switched it, and in records of older versions. */
  readonly power: PowerRecord | undefined;
}

/** A pod's name, which another one may have later. */
export interface PodName {
  readonly namespace: string;
  readonly name: string;
}

/** What the record tells of a VM's power. */
export interface PowerRecord {
  readonly state: PowerState;
  /** The oldest first. */
  readonly requests: readonly PowerStatus[];
}

/** The record of one VM; every change reaches the disk before the next effect. */
export interface Recorder {
  readonly record: VmRecord;
  update(change: Partial<VmRecord>): void;
}

export interface NumaRecord {
  /** The file that counts it; undefined where nothing had to be chosen. */
  readonly ledger: string | undefined;
  readonly claim: Claim;
}

export interface RecordedDisk {
  readonly name: string;
  /** Where it comes from, for people. */
  readonly source: string;
  /** On the node; undefined until it is known. */
  readonly path: string | undefined;
  /** The same for two disks with the same bytes; undefined until the disk is open. */
  readonly identity: string | undefined;
}

/** What serves a shared directory to the guest. */
export interface SharedRecord {
  readonly server: ProcessMark;
  /** The directory on the node, as `FileInfo.identity` tells it from all others. */
  readonly source: string;
  /** Where this process's part of its log begins, in bytes. */
  readonly logStart: number;
}

/** A process that cannot be mistaken for a later one with the same pid. `startTime` in clock ticks since boot. */
export interface ProcessMark {
  readonly pid: number;
  readonly startTime: number;
}

/**
 * What the next shim has to know to take a guest over, and the `delete` of its dead one to leave it alone: `delete` may not
 * know the configuration that the VM was made with.
 */
export interface Survival {
  /** Whose the guest is, as `ownerOf` says it. */
  readonly owner: string;
  /** What the machine is made of; another one cannot take its place without a boot. */
  readonly makeup: string;
  /** With how many vCPUs it was started and how many it has places for; absent in records of older versions. */
  readonly vcpus?: { readonly started: number; readonly places: number };
  /** With how much RAM it was started and how much it can have, in bytes; absent in records of older versions. */
  readonly memory?: { readonly started: number; readonly places: number };
  /** Where QEMU's part of its log begins, in bytes. */
  readonly logStart: number;
  /** What was decided when it was made, for people; `factsOf` reads it. */
  readonly facts: Readonly<Record<string, unknown>>;
  /** Its place on the host's memory nodes and CPUs. */
  readonly plan: NumaPlan;
  /** How long it may wait for the next shim, and then take to power itself off. */
  readonly deadlineMs: number;
  readonly graceMs: number;
  /** Bounds of the console log, as in the configuration. */
  readonly console: { readonly logBytes: number; readonly logFiles: number };
  /** A path that goes when kubelet has given the pod up; undefined for a guest of no pod. */
  readonly podDir: string | undefined;
}

/** A guest whose shim has died. Times in milliseconds since the epoch. */
export interface Orphan {
  readonly since: number;
  readonly deadline: number;
  /** The process that ends it at the deadline, once it runs. */
  readonly keeper: ProcessMark | undefined;
  /** It is being shut down: nobody takes it over any more. */
  readonly ending: boolean;
}

export function writeRecord(host: Host, record: VmRecord): void {
  host.replaceFile(`${record.runDir}/${RECORD_FILE}`, `${JSON.stringify(record)}\n`, 0o600);
}

/**
 * @returns undefined where there is no record.
 * @throws VmError Internal when the file is no record of a format this program knows.
 */
export function readRecord(host: Host, path: string): VmRecord | undefined {
  const text = absentIs(undefined, () => host.readText(path));
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new VmError('Internal', `record "${path}" is not JSON; it was not written by this program`, {
      cause,
    });
  }
  if (typeof value !== 'object' || value === null || !('format' in value) || value.format !== RECORD_FORMAT) {
    throw new VmError(
      'Internal',
      `record "${path}" has a format this version does not know; use the newer containerd-shim-vm`,
    );
  }
  // The directory moves when another shim takes the VM over, and what is in it with it.
  return { ...(value as VmRecord), runDir: dirname(path) };
}
