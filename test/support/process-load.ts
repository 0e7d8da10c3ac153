import { readFileSync } from 'node:fs';

/** What a process has used so far. */
export interface ProcessLoad {
  /** Seconds of CPU time, in user and kernel mode. */
  readonly cpu: number;
  /** Bytes of memory that are its own: neither files nor shared. */
  readonly memory: number;
  /** Bytes that it has read, by whatever system call. */
  readonly read: number;
}

/** USER_HZ is 100 on every architecture that Linux still has. */
const TICKS = 100;

export function processLoad(pid: number): ProcessLoad {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [, kib = '0'] = /^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? [];
  const [, read = '0'] = /^rchar: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, 'latin1')) ?? [];
  return {
    cpu: (Number(fields[11]) + Number(fields[12])) / TICKS,
    memory: Number(kib) * 1024,
    read: Number(read),
  };
}
