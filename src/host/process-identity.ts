import { VmError } from '../core/errors.ts';
import { absentIs } from './absent-is.ts';
import type { Host } from './host.ts';

/** A process as one boot of the kernel sees it: a pid is used again, together with its start time it is not. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since boot, field 22 of /proc/PID/stat. */
  readonly startTime: number;
  /** The boot the start time counts from. */
  readonly bootId: string;
}

export interface ProcessStatus {
  readonly pid: number;
  readonly startTime: number;
  /** One letter of proc_pid_stat(5), of the first thread: R, S, D, T, t, Z, X, I. */
  readonly state: string;
  readonly threads: number;
}

/** What /proc says of `pid`, undefined when there is no such process. A zombie still has an entry. */
export function readIdentity(host: Host, pid: number, proc = '/proc'): ProcessStatus | undefined {
  const path = `${proc}/${pid}/stat`;
  const text = absentIs(undefined, () => host.readText(path));
  if (text === undefined) return undefined;
  // Field 2 is the name in parentheses and may hold both blanks and parentheses; the last one ends it.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state] = fields;
  const startTime = Number(fields[22 - 3]);
  const threads = Number(fields[20 - 3]);
  if (state === undefined || !Number.isSafeInteger(startTime) || !Number.isSafeInteger(threads)) {
    throw new VmError('Internal', `${path} is not as proc_pid_stat(5) describes it: ${text.trim()}`);
  }
  return { pid, startTime, state, threads };
}

/** Changes with every boot of the host. */
export function bootId(host: Host, proc = '/proc'): string {
  return host.readText(`${proc}/sys/kernel/random/boot_id`).trim();
}

/**
 * Whether nothing of a process runs any more, though it may not be reaped yet. Its first thread alone does not tell: it may
 * be a zombie while others end, and the locks on its files go with the last of them.
 */
export function hasEnded({ state, threads }: ProcessStatus): boolean {
  return (state === 'Z' || state === 'X') && threads <= 1;
}

/** Whether exactly that process still runs; one that has ended but is not reaped yet does not. */
export function isAlive(host: Host, identity: ProcessIdentity, proc = '/proc'): boolean {
  if (bootId(host, proc) !== identity.bootId) return false;
  const now = readIdentity(host, identity.pid, proc);
  return now?.startTime === identity.startTime && !hasEnded(now);
}
