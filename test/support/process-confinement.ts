import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';

/** What the kernel says of how a process is confined, every thread of it. See proc(5). */
export interface Confinement {
  /** Real, effective, saved and file system user of every thread: one entry where they are all the same. */
  readonly users: readonly string[];
  readonly groups: readonly string[];
  readonly supplementary: readonly string[];
  /** Inheritable, permitted, effective and ambient capabilities; none is `0`. */
  readonly capabilities: readonly string[];
  readonly noNewPrivileges: readonly string[];
  /** 2 is a filter. */
  readonly seccomp: readonly string[];
}

export function confinement(pid: number): Confinement {
  const threads = readdirSync(`/proc/${pid}/task`).flatMap((tid) => {
    try {
      return [readFileSync(`/proc/${pid}/task/${tid}/status`, 'latin1')];
    } catch (error) {
      // One of QEMU's pool that has ended since.
      if (tid !== String(pid) && error instanceof Error && 'code' in error) return [];
      throw error;
    }
  });
  const all = (...fields: string[]): string[] => [
    ...new Set(threads.flatMap((text) => fields.flatMap((field) => values(text, field)))),
  ];
  return {
    users: all('Uid'),
    groups: all('Gid'),
    supplementary: all('Groups'),
    capabilities: all('CapInh', 'CapPrm', 'CapEff', 'CapAmb').map((set) => BigInt(`0x${set}`).toString(16)),
    noNewPrivileges: all('NoNewPrivs'),
    seccomp: all('Seccomp'),
  };
}

function values(status: string, field: string): string[] {
  const [, text = ''] = new RegExp(`^${field}:[ \t]*(.*)$`, 'm').exec(status) ?? [];
  return text.split(/\s+/).filter((value) => value !== '');
}

/** A descriptor of a process: what /proc says it is open on, and how. */
export interface OpenFile {
  readonly target: string;
  readonly access: 'read' | 'write' | 'read-write';
}

const ACCESS = ['read', 'write', 'read-write'] as const;

/** Everything that a process has open. `target` of what has no path begins with its kind, such as `socket:` or `/memfd:`. */
export function openFiles(pid: number): OpenFile[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/${pid}/fd/${fd}`);
      const [, flags = '0'] =
        /^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'latin1')) ?? [];
      return [{ target, access: ACCESS[Number.parseInt(flags, 8) & 3] ?? 'read-write' }];
    } catch (error) {
      // Closed between the two looks.
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
      throw error;
    }
  });
}

/** Files that a process has mapped, without what the kernel makes. */
export function mappedFiles(pid: number): string[] {
  const lines = readFileSync(`/proc/${pid}/maps`, 'latin1').split('\n');
  return [...new Set(lines.map((line) => line.split(/\s+/).slice(5).join(' ')))].filter((path) =>
    path.startsWith('/'),
  );
}

/** Identity of a namespace of a process, such as `net`. */
export function namespaceOf(pid: number, kind: string): number {
  return statSync(`/proc/${pid}/ns/${kind}`).ino;
}

/** Names of the network links a process can see. */
export function linksOf(pid: number): string[] {
  const lines = readFileSync(`/proc/${pid}/net/dev`, 'latin1').split('\n').slice(2, -1);
  return lines.map((line) => line.split(':')[0]!.trim());
}
