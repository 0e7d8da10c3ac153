/**
 * The thin seam between this project and the machine it runs on. Everything above `src/host` reaches files and
 * processes through it, so tests can put a temporary tree and scripted commands in its place. There is no domain
 * knowledge in it on purpose: no "create TAP", no "make overlay".
 *
 * Methods that take a path throw `VmError` with the path in the message: NotFound for ENOENT and ENOTDIR,
 * AlreadyExists for EEXIST, PermissionDenied for EACCES and EPERM, ResourceExhausted for ENOSPC, EDQUOT, EMFILE and
 * ENOMEM, FailedPrecondition for EBUSY, EROFS and ENOTEMPTY, Internal for the rest; the Node error is the `cause`.
 *
 * Files here are small (records, sysfs, cgroupfs), so reading and writing them is synchronous; commands and
 * processes are not.
 */
export interface Host {
  readText(path: string): string;
  /** Reads `length` bytes at `offset`, fewer at the end of the file. */
  readBytes(fd: number, offset: number, length: number): Buffer;
  /** Plain write to an existing or new file, as cgroupfs and sysfs want it. */
  writeText(path: string, text: string): void;
  /** Atomic and durable: temporary file beside it, fsync, rename, fsync of the directory. */
  replaceFile(path: string, text: string, mode: number): void;
  /** Names in a directory, sorted; an absent directory is NotFound. */
  listDir(path: string): string[];
  /** Creates the directory and its missing parents with this mode; an existing one keeps its own. */
  makeDir(path: string, mode: number): void;
  /** Removes a file or an empty directory; absent is fine. */
  remove(path: string): void;
  /** Removes a directory with everything in it, never crossing into a mount; absent is fine. */
  removeTree(path: string): void;
  /** lstat, or undefined where nothing is. */
  inspect(path: string): FileInfo | undefined;
  /** readlink(2): what a symbolic link says. */
  readLink(path: string): string;
  /** fstat(2). */
  inspectFd(fd: number): FileInfo;
  /** pwrite(2) until every byte is written. */
  writeBytes(fd: number, offset: number, bytes: Uint8Array): void;
  /** One write(2) to a descriptor opened with O_APPEND; returns how many bytes were taken, at least one. */
  appendBytes(fd: number, bytes: Uint8Array): number;
  /** fsync(2) of a file or a directory. */
  sync(fd: number): void;
  /** link(2): a second name for a file; AlreadyExists when the name is taken, so nothing is ever replaced. */
  link(existing: string, name: string): void;
  /** A second file with the same blocks (ioctl_ficlone(2)); false where the file system cannot share them. */
  cloneFile(existing: string, name: string): boolean;
  /** rename(2): replaces what had the new name. */
  rename(from: string, to: string): void;
  /** Bytes that are free for us in the file system of a path. statfs(2). */
  freeBytes(path: string): number;
  /** ftruncate(2). */
  truncate(fd: number, size: number): void;
  /** A file without a name in a directory, open for reading and writing, gone with its last descriptor. */
  temporaryFile(directory: string, mode: number): OwnedFd;
  /** Opens with O_CLOEXEC. `flags` are node:fs constants. */
  open(path: string, flags: number, mode?: number): OwnedFd;
  /**
   * Runs a command to its end with a minimal environment; a non-zero exit is an Internal error that ends with the command's
   * stderr, unless `options.anyStatus` says that the caller wants to know of it.
   */
  exec(file: string, args: readonly string[], options?: ExecOptions): Promise<ExecResult>;
  /** Starts a long-lived process that outlives us. */
  spawn(plan: SpawnPlan): SpawnedProcess;
}

export interface FileInfo {
  readonly kind: 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'char-device' | 'block-device';
  readonly size: number;
  readonly mode: number;
  readonly uid: number;
  readonly mtimeMs: number;
  /** When contents, owner, mode or links last changed (ctime). */
  readonly changedMs: number;
  /** What a device node stands for; 0 for everything else. */
  readonly device: DeviceNumber;
  /** Tells the file from all others of this boot: the numbers of its file system and of its inode. */
  readonly identity: string;
}

export interface DeviceNumber {
  readonly major: number;
  readonly minor: number;
}

/** A descriptor with one owner; disposing closes it once. */
export interface OwnedFd extends Disposable {
  readonly fd: number;
}

export interface ExecOptions {
  readonly signal?: AbortSignal;
  readonly input?: string | Uint8Array;
  readonly cwd?: string;
  /** Variables beside PATH and LC_ALL, which it may replace. Nothing of our own environment is passed on. */
  readonly env?: Readonly<Record<string, string>>;
  /** Resolve with whatever status the command exits. One that a signal ended is an error all the same. */
  readonly anyStatus?: boolean;
  /**
   * Descriptors of ours that become 3, 4 … in the command. What we claimed by one stays claimed until the command ends,
   * even when we are killed before it.
   */
  readonly fds?: readonly number[];
  /** Bytes of stdout kept at most; more is an error. Default 4 MiB. */
  readonly maxOutput?: number;
}

export interface ExecResult {
  /** 0 to 255; always 0 without `anyStatus`. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface SpawnPlan {
  /** Absolute path. */
  readonly file: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly uid: number;
  readonly gid: number;
  /** Descriptors of ours that become 0, 1, 2, 3 … in the child; `null` is /dev/null. */
  readonly fds: readonly (number | null)[];
  readonly network: ProcessNetwork;
}

/** The network namespace a child starts in: ours, a new one without any link, or the one at an absolute path. */
export type ProcessNetwork = 'inherit' | 'empty' | { readonly path: string };

/** A child in its own session. It is not stopped when we end. */
export interface SpawnedProcess {
  readonly pid: number;
  /** Resolves once, when the kernel has told us of the end; never rejects. */
  readonly exited: Promise<ProcessExit>;
}

export type ProcessExit =
  { readonly kind: 'exited'; readonly code: number } | { readonly kind: 'signaled'; readonly signal: number };
