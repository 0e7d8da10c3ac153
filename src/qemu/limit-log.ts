import type { Host } from '../host/host.ts';
import { openFlags } from '../host/open-flags.ts';
import { watchFile } from '../host/watch-file.ts';

const { O_RDWR, O_APPEND, O_NOFOLLOW } = openFlags;

export interface LogLimit {
  /** A file that has grown above this is cut. */
  readonly maxBytes: number;
  /** What stays of it, the newest. */
  readonly keptBytes: number;
  /** How long the file is not looked at after it was, in milliseconds. */
  readonly restMs: number;
  /** The file was cut: offsets in it mean nothing any more. */
  readonly onCut: () => void;
}

/**
 * Cuts a file that another process appends to (O_APPEND) when it grows too large, for as long as it is not disposed. A guest
 * can make QEMU complain without end, on a file system that is the node's memory. Nothing runs while nothing is written;
 * however much is, the file is looked at once in `restMs`.
 */
export function limitLog(host: Host, path: string, limit: LogLimit): Disposable {
  let watching: Disposable | undefined;
  let rest: NodeJS.Timeout | undefined;
  const watch = (): void => {
    try {
      watching = watchFile(path, look);
    } catch {
      // It has gone with its VM, or the kernel has no watches left: the log of a VM is no reason to do without the VM.
    }
  };
  const look = (): void => {
    watching?.[Symbol.dispose]();
    watching = undefined;
    cut(host, path, limit);
    const seen = host.inspect(path)?.size;
    rest = setTimeout(() => {
      watch();
      // What was written while nobody watched is told by nobody.
      if (host.inspect(path)?.size !== seen) look();
    }, limit.restMs).unref();
  };
  watch();
  return {
    [Symbol.dispose]: () => {
      clearTimeout(rest);
      watching?.[Symbol.dispose]();
    },
  };
}

/** Cut first, then written again: what the process says in between is kept, and may stand before what was kept. */
function cut(host: Host, path: string, { maxBytes, keptBytes, onCut }: LogLimit): void {
  const size = host.inspect(path)?.size ?? 0;
  if (size <= maxBytes) return;
  using file = host.open(path, O_RDWR | O_APPEND | O_NOFOLLOW);
  const kept = host.readBytes(file.fd, size - keptBytes, keptBytes);
  host.truncate(file.fd, 0);
  onCut();
  const note = Buffer.from(`[vmshim: ${size - kept.length} bytes of this log were dropped]\n`);
  for (let left = Buffer.concat([note, kept]); left.length > 0;) {
    left = left.subarray(host.appendBytes(file.fd, left));
  }
}
