import { execFile, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { createServer, type Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { VmError } from '../../../src/core/errors.ts';
import type { OwnedFd, ProcessExit, SpawnPlan, SpawnedProcess, ExecResult } from '../../../src/host/host.ts';
import type { ConsoleHost } from '../../../src/shim/console/console-host.ts';
import { ConsoleHub } from '../../../src/shim/console/console-hub.ts';
import { ConsoleLog, type ConsoleLogOptions } from '../../../src/shim/console/console-log.ts';
import { ConsoleSpool } from '../../../src/shim/console/console-spool.ts';

const run = promisify(execFile);

/** What console IO wants of the host, on this machine; `room` below Infinity simulates a disk that fills up. */
export class LabHost implements ConsoleHost {
  /** Bytes that may still be appended. */
  room = Number.POSITIVE_INFINITY;

  inspect(path: string): ReturnType<ConsoleHost['inspect']> {
    const stat = fs.lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return undefined;
    const kind = stat.isFIFO()
      ? 'fifo'
      : stat.isFile()
        ? 'file'
        : stat.isDirectory()
          ? 'directory'
          : 'char-device';
    const { size, uid, mtimeMs, ctimeMs: changedMs } = stat;
    const device = { major: 0, minor: 0 };
    const identity = `${stat.dev}:${stat.ino}`;
    return { kind, size, mode: stat.mode & 0o7777, uid, mtimeMs, changedMs, device, identity };
  }

  open(path: string, flags: number, mode?: number): OwnedFd {
    const fd = orVmError(() => fs.openSync(path, flags, mode));
    let open = true;
    return {
      fd,
      [Symbol.dispose]: () => {
        if (open) fs.closeSync(fd);
        open = false;
      },
    };
  }

  readText(path: string): string {
    return orVmError(() => fs.readFileSync(path, 'utf8'));
  }

  readBytes(fd: number, offset: number, length: number): Buffer {
    const buffer = Buffer.alloc(length);
    return buffer.subarray(0, fs.readSync(fd, buffer, 0, length, offset));
  }

  appendBytes(fd: number, data: Uint8Array): number {
    if (this.room === 0) throw new VmError('ResourceExhausted', 'no space left on device');
    const written = fs.writeSync(fd, data.subarray(0, Math.min(data.length, this.room)));
    this.room -= written;
    return written;
  }

  rename(from: string, to: string): void {
    orVmError(() => fs.renameSync(from, to));
  }

  makeDir(path: string, mode: number): void {
    fs.mkdirSync(path, { recursive: true, mode });
  }

  remove(path: string): void {
    fs.rmSync(path, { force: true });
  }

  async exec(file: string, args: readonly string[]): Promise<ExecResult> {
    return { status: 0, ...(await run(file, [...args])) };
  }

  spawn(plan: SpawnPlan): SpawnedProcess {
    const child = spawn(plan.file, plan.args, {
      env: { ...plan.env },
      cwd: plan.cwd,
      detached: true,
      stdio: plan.fds.map((fd) => fd ?? 'ignore'),
    });
    const { promise, resolve } = Promise.withResolvers<ProcessExit>();
    child.on('error', () => resolve({ kind: 'exited', code: 127 }));
    child.on('exit', (code) =>
      resolve(code === null ? { kind: 'signaled', signal: 9 } : { kind: 'exited', code }),
    );
    return { pid: child.pid!, exited: promise };
  }
}

function orVmError<T>(act: () => T): T {
  try {
    return act();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new VmError(code === 'ENOENT' ? 'NotFound' : 'Internal', message, { cause: error });
  }
}

/** QEMU's end of the console: a listening socket and the connection that the shim made to it. */
export class FakeConsole implements AsyncDisposable {
  readonly path: string;
  readonly #server: Server;
  readonly #connected = Promise.withResolvers<Socket>();

  constructor(path: string) {
    this.path = path;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => undefined);
      this.#connected.resolve(socket);
    });
  }

  async listen(): Promise<this> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#server.listen(this.path, () => resolve(undefined));
    await promise;
    return this;
  }

  get socket(): Promise<Socket> {
    return this.#connected.promise;
  }

  /** The guest prints; resolves when the shim's socket took it. */
  async print(data: string | Uint8Array): Promise<void> {
    const socket = await this.socket;
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    socket.write(data, (error) => (error ? reject(error) : resolve(undefined)));
    await promise;
  }

  /** QEMU ends. */
  async exit(): Promise<void> {
    const socket = await this.socket;
    socket.end(() => socket.destroy());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#server.close(() => resolve(undefined));
    void this.socket.then((socket) => socket.destroy());
    await promise;
  }
}

/** What arrives at one end of a fifo or socket, with a wait for a condition on it. */
export class Collector implements AsyncDisposable {
  readonly socket: Socket;
  readonly ended: Promise<void>;
  #chunks: Buffer[] = [];
  #total = 0;
  #check: () => void = () => undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.ended = promise;
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#total += chunk.length;
      this.#check();
    });
    socket.on('end', () => resolve(undefined));
    socket.on('error', () => undefined);
  }

  /** A reader of the fifo at `path`, as containerd opens it. */
  static fifo(path: string): Collector {
    const fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
    return new Collector(new Socket({ fd, readable: true, writable: false }));
  }

  get total(): number {
    return this.#total;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  get text(): string {
    return this.bytes.toString();
  }

  /** Forgets what arrived. */
  clear(): void {
    this.#chunks = [];
  }

  async until(done: () => boolean): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#check = () => {
      if (done()) resolve(undefined);
    };
    this.#check();
    await promise;
    this.#check = () => undefined;
  }

  async untilText(part: string): Promise<void> {
    await this.until(() => this.text.includes(part));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.socket.closed) return;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.socket.on('close', () => resolve(undefined));
    this.socket.destroy();
    await promise;
  }
}

/** A client's write end of a stdin fifo; containerd's opens it so. */
export class Typist implements Disposable {
  readonly #fd: number;

  constructor(path: string) {
    this.#fd = fs.openSync(path, fs.constants.O_WRONLY | fs.constants.O_NONBLOCK);
  }

  type(text: string | Uint8Array): number {
    return typeof text === 'string' ? fs.writeSync(this.#fd, text) : fs.writeSync(this.#fd, text);
  }

  [Symbol.dispose](): void {
    fs.closeSync(this.#fd);
  }
}

/** A private directory with a VM's console in it; on disposal everything is closed and removed. */
export class Lab implements AsyncDisposable {
  readonly dir = fs.mkdtempSync(join(tmpdir(), 'console-'));
  readonly host = new LabHost();
  readonly reports: string[] = [];
  readonly report = (sentence: string): void => void this.reports.push(sentence);
  readonly #stack = new AsyncDisposableStack();

  path(name: string): string {
    return join(this.dir, name);
  }

  use<T extends AsyncDisposable | Disposable>(resource: T): T {
    return this.#stack.use(resource);
  }

  async fifo(name: string): Promise<string> {
    await run('mkfifo', [this.path(name)]);
    return this.path(name);
  }

  spool(log: ConsoleLogOptions = {}, memoryBytes?: number): ConsoleSpool {
    const options = { report: this.report, ...log };
    return new ConsoleSpool(new ConsoleLog(this.host, this.path('console.log'), options), memoryBytes);
  }

  /** A hub that is connected to a fake QEMU. */
  async console(
    log: ConsoleLogOptions = {},
    memoryBytes?: number,
  ): Promise<{ hub: ConsoleHub; qemu: FakeConsole }> {
    const qemu = this.use(await new FakeConsole(this.path('console.sock')).listen());
    const hub = await ConsoleHub.connect(qemu.path, this.spool(log, memoryBytes), {
      signal: new AbortController().signal,
    });
    this.use(hub);
    return { hub, qemu };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
    fs.rmSync(this.dir, { recursive: true });
  }
}

/** Runs a test body in a lab and checks that it left no descriptor open. */
export async function inLab(
  t: { same(found: unknown, wanted: unknown, message: string): unknown },
  body: (lab: Lab) => Promise<void> | void,
): Promise<void> {
  const before = await openDescriptors();
  const lab = new Lab();
  try {
    await body(lab);
  } finally {
    await lab[Symbol.asyncDispose]();
  }
  t.same(await openDescriptors(), before, 'no descriptor is left open');
}

/** What this process has open, apart from what libuv opens when it first needs it and keeps. */
async function openDescriptors(): Promise<string[]> {
  await setImmediate();
  return fs
    .readdirSync('/proc/self/fd')
    .flatMap((fd) => {
      try {
        return [`${fd} ${fs.readlinkSync(`/proc/self/fd/${fd}`)}`];
      } catch {
        return [];
      }
    })
    .filter((line) => !/ (\/proc\/|\/dev\/null|anon_inode:)/.test(line))
    .sort();
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Bytes of live Buffers. */
export async function bufferBytes(): Promise<number> {
  collect();
  // What the first collection found is freed in the background; the second one waits for that.
  await setImmediate();
  collect();
  return process.memoryUsage().arrayBuffers;
}

/** `length` bytes in which every position is recognisable: lines of 16 bytes that count. */
export function numbered(length: number, from = 0): Buffer {
  const out = Buffer.alloc(length);
  for (let at = 0; at < length; at += 16)
    out.write(`${String((from + at) / 16).padStart(15, '0')}\n`, at, 'latin1');
  return out;
}
