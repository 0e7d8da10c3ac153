import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { VmError } from '../core/errors.ts';

/**
 * The system calls of `native/vmshim.c`. A failed call throws a Node-style error (`code`, `errno`, `syscall`), which
 * `toVmError` of linux-errno.ts translates; a wrong argument throws TypeError or RangeError. Descriptors returned are
 * close-on-exec; whoever called owns them.
 */
export interface Native {
  /** Hash of the C source and the compiler flags this build was made from. */
  readonly sourceHash: string;

  /** A listening SOCK_STREAM socket bound to `path` (at most 107 bytes, must not exist), file mode 0600 from the start. */
  listenUnix(path: string, backlog: number): number;
  /** A non-blocking AF_VSOCK socket, connected or connecting. */
  vsockConnect(cid: number, port: number): number;
  /** Sends at least one byte with up to 253 descriptors (unix(7), SCM_RIGHTS); returns the bytes sent. */
  sendFds(socket: number, bytes: Uint8Array, fds: readonly number[]): number;
  /** Receives what one sendmsg sent; no bytes means the end. More descriptors than `maxFds` is EMSGSIZE and closes all. */
  recvFds(socket: number, maxBytes: number, maxFds: number): { bytes: Buffer; fds: number[] };

  /** Moves the calling thread into a new network namespace; children it starts follow. */
  unshareNet(): void;
  /** Moves the calling thread into the namespace `fd` is open on; `nstype` is a CLONE_NEW* value or 0 for any. */
  setns(fd: number, nstype: number): void;
  mount(source: string | null, target: string, type: string | null, flags: number, data: string | null): void;
  umount(target: string, flags: number): void;

  /** An anonymous file; MFD_CLOEXEC is always added to `flags`. */
  memfdCreate(name: string, flags: number): number;
  /** False when LOCK_NB was given and somebody else holds the lock. Without LOCK_NB it blocks the event loop. */
  flock(fd: number, operation: number): boolean;
  /** Whether another open file has a lock of any kind on these bytes of the file (fcntl(2), F_OFD_GETLK). */
  ofdLocked(fd: number, start: number, length: number): boolean;
  /**
   * Waits for LOCK_EX in a thread. Returns the read end, non-blocking, of a pipe that gets one byte when the wait is over: 0, or
   * the number of an error. A process that exits does not wait for the thread. Who closes `fd` before has given up.
   */
  flockWait(fd: number): number;
  setCloexec(fd: number, on: boolean): void;
  /** A duplicate with a number of at least 3. */
  dup(fd: number): number;

  /** TUNSETIFF: attaches a descriptor of /dev/net/tun to the interface `name`; returns the name the kernel chose. */
  tunSetIff(fd: number, name: string, flags: number): string;
  tunSetInt(fd: number, option: TunOption, value: number): void;
  /**
   * TUNGETDEVNETNS (Linux 5.2): the network namespace that the interface of a descriptor is in now, also where that has no name
   * and no process. EBADFD for a descriptor whose interface is gone.
   */
  tunNetns(fd: number): number;
  /**
   * TUNATTACHFILTER: from now on the TAP drops, of what goes to its reader, every frame that `filter`, an array of struct
   * sock_filter, returns 0 for. For all of its queues, whoever has them open.
   */
  tunAttachFilter(fd: number, filter: Uint8Array): void;

  /**
   * A non-blocking packet(7) socket that sees what comes in by the interface `ifName` of the calling thread's network
   * namespace, before any bridge, tc or nftables does, and sends out of it. `filter` is an array of struct sock_filter;
   * `receiveBuffer` is SO_RCVBUF, of which the kernel makes twice as much.
   */
  packetSocket(ifName: string, filter: Uint8Array, receiveBuffer: number): number;
  /** A listening TCP socket on a free port of the calling thread's network namespace, for IPv6 and IPv4. */
  listenTcp(backlog: number): number;
  /**
   * From now on the socket `listener` gets every TCP connection to 127.0.0.0/8 and ::1 of the network namespace that `netns`
   * is open on, whatever its port, and tells that port as its own (BPF_PROG_TYPE_SK_LOOKUP, Linux 5.9). It ends when the
   * descriptor returned is closed.
   */
  catchLoopback(netns: number, listener: number): number;
  /** SO_MARK: the mark that filters of this machine see on all that a socket sends; it never leaves the machine. */
  setMark(fd: number, mark: number): void;
  /**
   * Calls `onReady` in the event loop, again and again, as long as `fd` has something to read; does not keep the loop
   * alive. `failed` means that the descriptor has an error to be read and that the watch has stopped: `unwatch` it and
   * watch anew. One watch per descriptor (EEXIST).
   */
  watchReadable(fd: number, onReady: (failed: boolean) => void): void;
  /** Must come before the descriptor is closed. ENOENT when it is not watched. */
  unwatch(fd: number): void;

  pidfdOpen(pid: number): number;
  pidfdSendSignal(pidfd: number, signal: number): void;
  /** A copy of a descriptor of another process (pidfd_getfd(2), Linux 5.6), which one must be allowed to trace. */
  pidfdGetFd(pidfd: number, fd: number): number;
  /** waitpid(2) with its raw status; null when WNOHANG was given and no child has changed. */
  waitpid(pid: number, options: number): { pid: number; status: number } | null;
  /** Makes us the leader of a new session without a terminal; EPERM for the leader of a process group. */
  setsid(): void;
  /** Orphaned grandchildren become ours instead of init's. */
  setChildSubreaper(on: boolean): void;
  /** The name `ps` shows for the calling thread, at most 15 bytes. */
  prctlSetName(name: string): void;
  /** `tid` 0 is the calling thread. */
  schedSetaffinity(tid: number, cpus: readonly number[]): void;
  schedGetaffinity(tid: number): number[];
}

/** TUNSETVNETHDRSZ, TUNSETOFFLOAD (TUN_F_* bits), TUNSETOWNER (uid), TUNSETPERSIST (0 or 1). */
export type TunOption = 'vnet-hdr-size' | 'offload' | 'owner' | 'persist';

let loaded: Native | undefined;

/**
 * Loads the addon once, at the first call. It lies beside the running bundle, or, when the source runs as it is, in the
 * repository's `dist/` where scripts/build-addon.ts puts it. Throws FailedPrecondition when it is in neither place.
 */
export function loadNative(): Native {
  loaded ??= loadFrom(addonPath());
  return loaded;
}

// A CommonJS bundle has __dirname and an empty import.meta, an ES module the reverse, so neither alone will do.
function addonPath(): string {
  const here = typeof __dirname === 'string' ? __dirname : import.meta.dirname;
  const candidates = [join(here, 'vmshim.node'), join(dirname(dirname(here)), 'dist', 'vmshim.node')];
  const found = candidates.find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new VmError(
    'FailedPrecondition',
    `the native addon vmshim.node is not in ${candidates.map((path) => dirname(path)).join(' or ')}: ` +
      'install it beside the program, or run scripts/build-addon.ts in a source tree',
  );
}

function loadFrom(path: string): Native {
  const module = { exports: {} };
  try {
    process.dlopen(module, path);
  } catch (error) {
    throw new VmError(
      'FailedPrecondition',
      `the native addon ${path} cannot be loaded by Node ${process.version}`,
      {
        cause: error,
      },
    );
  }
  return module.exports as Native;
}
