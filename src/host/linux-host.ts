import {
  closeSync,
  constants,
  copyFileSync,
  fchmodSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  renameSync,
  rmdirSync,
  rmSync,
  type Stats,
  statfsSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { execCommand } from './exec-command.ts';
import type {
  DeviceNumber,
  ExecOptions,
  ExecResult,
  FileInfo,
  Host,
  OwnedFd,
  SpawnedProcess,
  SpawnPlan,
} from './host.ts';
import { errnoName, withErrno } from './linux-errno.ts';
import { makeDir } from './make-dir.ts';
import { loadNative, type Native } from './native.ts';
import { ownFd } from './owned-fd.ts';
import { removeTree } from './remove-tree.ts';
import { spawnProcess } from './spawn-process.ts';
import { temporaryFile } from './temporary-file.ts';

/** The machine we run on. The native addon is loaded by the first `spawn`. */
export class LinuxHost implements Host {
  readonly #native: () => Native;

  constructor(native: () => Native = loadNative) {
    this.#native = native;
  }

  readText(path: string): string {
    return withErrno(`read ${path}`, () => readFileSync(path, 'utf8'));
  }

  readBytes(fd: number, offset: number, length: number): Buffer {
    return withErrno(`read descriptor ${fd}`, () => {
      const bytes = Buffer.alloc(length);
      let filled = 0;
      while (filled < length) {
        const count = readSync(fd, bytes, filled, length - filled, offset + filled);
        if (count === 0) break;
        filled += count;
      }
      return bytes.subarray(0, filled);
    });
  }

  writeText(path: string, text: string): void {
    withErrno(`write ${path}`, () => writeFileSync(path, text));
  }

  replaceFile(path: string, text: string, mode: number): void {
    const directory = dirname(path);
    // One name per process: a crash leaves at most that one, two processes never write into the same.
    const temporary = join(directory, `.${basename(path)}.${process.pid}.tmp`);
    withErrno(`replace ${path}`, () => {
      try {
        writeDurably(temporary, text, mode);
        renameSync(temporary, path);
      } catch (error) {
        rmSync(temporary, { force: true });
        throw error;
      }
      syncDirectory(directory);
    });
  }

  listDir(path: string): string[] {
    return withErrno(`list ${path}`, () => readdirSync(path).sort());
  }

  makeDir(path: string, mode: number): void {
    makeDir(path, mode);
  }

  remove(path: string): void {
    const info = this.inspect(path);
    if (info === undefined) return;
    withErrno(`remove ${path}`, () => {
      try {
        if (info.kind === 'directory') rmdirSync(path);
        else unlinkSync(path);
      } catch (error) {
        if (errnoName(error) !== 'ENOENT') throw error;
      }
    });
  }

  removeTree(path: string): void {
    removeTree(path);
  }

  inspect(path: string): FileInfo | undefined {
    return withErrno(`inspect ${path}`, () => {
      try {
        return toFileInfo(lstatSync(path));
      } catch (error) {
        const name = errnoName(error);
        if (name === 'ENOENT' || name === 'ENOTDIR') return undefined;
        throw error;
      }
    });
  }

  readLink(path: string): string {
    return withErrno(`read link ${path}`, () => readlinkSync(path));
  }

  inspectFd(fd: number): FileInfo {
    return withErrno(`inspect descriptor ${fd}`, () => toFileInfo(fstatSync(fd)));
  }

  writeBytes(fd: number, offset: number, bytes: Uint8Array): void {
    withErrno(`write descriptor ${fd}`, () => {
      for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at, bytes.length - at, offset + at);
    });
  }

  appendBytes(fd: number, bytes: Uint8Array): number {
    return withErrno(`append to descriptor ${fd}`, () => writeSync(fd, bytes));
  }

  sync(fd: number): void {
    withErrno(`sync descriptor ${fd}`, () => fsyncSync(fd));
  }

  link(existing: string, name: string): void {
    withErrno(`link ${existing} to ${name}`, () => linkSync(existing, name));
  }

  cloneFile(existing: string, name: string): boolean {
    return withErrno(`clone ${existing} to ${name}`, () => {
      try {
        copyFileSync(existing, name, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL);
        return true;
      } catch (error) {
        if (CANNOT_CLONE.has(errnoName(error) ?? '')) return false;
        throw error;
      }
    });
  }

  rename(from: string, to: string): void {
    withErrno(`rename ${from} to ${to}`, () => renameSync(from, to));
  }

  freeBytes(path: string): number {
    const { bavail, bsize } = withErrno(`look at the file system of ${path}`, () => statfsSync(path));
    return bavail * bsize;
  }

  truncate(fd: number, size: number): void {
    withErrno(`truncate descriptor ${fd}`, () => ftruncateSync(fd, size));
  }

  temporaryFile(directory: string, mode: number): OwnedFd {
    return temporaryFile(directory, mode);
  }

  open(path: string, flags: number, mode = 0o600): OwnedFd {
    // libuv adds O_CLOEXEC to every open.
    return ownFd(withErrno(`open ${path}`, () => openSync(path, flags, mode)));
  }

  exec(file: string, args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    return execCommand(file, args, options);
  }

  spawn(plan: SpawnPlan): SpawnedProcess {
    return spawnProcess(this.#native(), plan);
  }
}

/** Two file systems, one that shares no blocks, or one that never heard of it. */
const CANNOT_CLONE = new Set(['EXDEV', 'EOPNOTSUPP', 'ENOTSUP', 'ENOTTY', 'EINVAL', 'ENOSYS']);

function writeDurably(path: string, text: string, mode: number): void {
  const { O_CREAT, O_NOFOLLOW, O_TRUNC, O_WRONLY } = constants;
  const fd = openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode);
  try {
    fchmodSync(fd, mode);
    writeFileSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function syncDirectory(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function toFileInfo(stats: Stats): FileInfo {
  return {
    kind: fileKind(stats),
    size: stats.size,
    mode: stats.mode & 0o7777,
    uid: stats.uid,
    mtimeMs: stats.mtimeMs,
    changedMs: stats.ctimeMs,
    device: deviceNumber(stats.rdev),
    identity: `${stats.dev}:${stats.ino}`,
  };
}

/** The parts of a `dev_t` of glibc. Source: makedev(3), sys/sysmacros.h. */
function deviceNumber(rdev: number): DeviceNumber {
  const high = Math.floor(rdev / 2 ** 32);
  const low = rdev % 2 ** 32;
  const major = (low >>> 8) & 0xfff;
  const minor = (low & 0xff) | ((low >>> 12) & 0xfff00);
  return { major: major + (high & ~0xfff), minor };
}

function fileKind(stats: Stats): FileInfo['kind'] {
  if (stats.isDirectory()) return 'directory';
  if (stats.isSymbolicLink()) return 'symlink';
  if (stats.isFIFO()) return 'fifo';
  if (stats.isSocket()) return 'socket';
  if (stats.isCharacterDevice()) return 'char-device';
  if (stats.isBlockDevice()) return 'block-device';
  return 'file';
}
