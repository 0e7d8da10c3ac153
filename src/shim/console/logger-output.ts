import { Socket } from 'node:net';
import { VmError } from '../../core/errors.ts';
import type { OwnedFd, SpawnedProcess } from '../../host/host.ts';
import { type AnonymousPipe, openAnonymousPipe } from './anonymous-pipe.ts';
import type { ConsoleHost } from './console-host.ts';
import type { ConsoleSpool } from './console-spool.ts';
import type { OutputSink } from './output-sink.ts';
import { PipeOutput } from './pipe-output.ts';

/** Time for the logger to end by itself after it saw the end of its input, and then after SIGTERM. */
const SETTLE_MS = 2000;
const TERMINATE_MS = 10_000;
/** include/linux/sched.h */
const PF_EXITING = 0x4;

export interface LoggerPlan {
  /** Absolute path of the logger program. */
  readonly path: string;
  readonly args: readonly string[];
}

export interface LoggerOptions {
  readonly id: string;
  readonly namespace: string;
  /** A private directory of the task for short-lived fifos. */
  readonly scratchDir: string;
  readonly stallMs?: number | undefined;
  readonly settleMs?: number | undefined;
  readonly terminateMs?: number | undefined;
  readonly report?: ((sentence: string) => void) | undefined;
}

/**
 * containerd's logging binary contract (runtime v2 `binary://`): a process that reads stdout on descriptor 3, stderr on
 * 4 and says on 5 (a byte, or closing it) that it is ready.
 */
export class LoggerOutput implements OutputSink {
  readonly #child: SpawnedProcess;
  readonly #output: PipeOutput;
  readonly #stderr: OwnedFd;
  readonly #options: LoggerOptions;
  #exited = false;
  #stderrClosed = false;

  private constructor(child: SpawnedProcess, output: PipeOutput, stderr: OwnedFd, options: LoggerOptions) {
    this.#child = child;
    this.#output = output;
    this.#stderr = stderr;
    this.#options = options;
    void child.exited.then(() => (this.#exited = true));
  }

  /** Starts the logger and waits until it is ready. Throws FailedPrecondition if it ends before. */
  static async start(
    host: ConsoleHost,
    spool: ConsoleSpool,
    plan: LoggerPlan,
    options: LoggerOptions & { readonly signal: AbortSignal },
  ): Promise<LoggerOutput> {
    const pipe = (name: string, ours: 'read' | 'write'): Promise<AnonymousPipe> =>
      openAnonymousPipe(host, `${options.scratchDir}/logger-${name}`, ours, options.signal);
    using held = new DisposableStack();
    const stdout = await pipe('stdout', 'write');
    held.use(stdout.readEnd);
    const stdoutEnd = held.use(new Handover(stdout.writeEnd));
    const stderr = await pipe('stderr', 'write');
    held.use(stderr.readEnd);
    const stderrEnd = held.use(new Handover(stderr.writeEnd));
    const ready = await pipe('ready', 'read');
    held.use(ready.writeEnd);
    const readyEnd = held.use(new Handover(ready.readEnd));
    const child = host.spawn({
      file: plan.path,
      args: plan.args,
      env: { CONTAINER_ID: options.id, CONTAINER_NAMESPACE: options.namespace },
      cwd: '/',
      uid: process.getuid?.() ?? 0,
      gid: process.getgid?.() ?? 0,
      fds: [null, null, null, stdout.readEnd.fd, stderr.readEnd.fd, ready.writeEnd.fd],
      network: 'inherit',
    });
    // The child has its own copies; ours would hide its end from us.
    stdout.readEnd[Symbol.dispose]();
    stderr.readEnd[Symbol.dispose]();
    ready.writeEnd[Symbol.dispose]();
    const output = new PipeOutput(spool, stdoutEnd.take(), undefined, {
      ...options,
      label: `logger ${plan.path}`,
    });
    const logger = new LoggerOutput(child, output, stderrEnd.take(), options);
    try {
      const said = await untilReady(readyEnd.take(), options.signal);
      if (said === 'closed' && isExiting(host, child.pid)) {
        throw new VmError(
          'FailedPrecondition',
          `stdout: the logger ${plan.path} ended before it was ready to take output; run it by hand to see why`,
        );
      }
      return logger;
    } catch (error) {
      await logger[Symbol.asyncDispose]();
      throw VmError.from(error, `cannot start the logger ${plan.path}`);
    }
  }

  async finish(options: { readonly signal?: AbortSignal | undefined } = {}): Promise<void> {
    await this.#output.finish(options);
    this.#closeStderr();
  }

  /** Closes the logger's input and waits for its end: by itself, on SIGTERM, by SIGKILL. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#output[Symbol.asyncDispose]();
    this.#closeStderr();
    if (await this.#endsWithin(this.#options.settleMs ?? SETTLE_MS)) return;
    process.kill(this.#child.pid, 'SIGTERM');
    if (await this.#endsWithin(this.#options.terminateMs ?? TERMINATE_MS)) return;
    process.kill(this.#child.pid, 'SIGKILL');
    await this.#child.exited;
  }

  #closeStderr(): void {
    if (this.#stderrClosed) return;
    this.#stderrClosed = true;
    this.#stderr[Symbol.dispose]();
  }

  async #endsWithin(ms: number): Promise<boolean> {
    const timeout = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => timeout.resolve(undefined), ms);
    await Promise.race([this.#child.exited, timeout.promise]);
    clearTimeout(timer);
    return this.#exited;
  }
}

/** A descriptor that is closed unless someone took it. */
class Handover implements Disposable {
  #owned: OwnedFd | undefined;

  constructor(owned: OwnedFd) {
    this.#owned = owned;
  }

  take(): OwnedFd {
    const owned = this.#owned;
    if (owned === undefined) throw new VmError('Internal', 'a descriptor was handed over twice');
    this.#owned = undefined;
    return owned;
  }

  [Symbol.dispose](): void {
    this.#owned?.[Symbol.dispose]();
  }
}

async function untilReady(readEnd: OwnedFd, signal: AbortSignal): Promise<'byte' | 'closed'> {
  const socket = new Socket({ fd: readEnd.fd, readable: true, writable: false });
  const result = Promise.withResolvers<'byte' | 'closed'>();
  const closed = Promise.withResolvers<undefined>();
  const abort = (): void => result.reject(VmError.from(signal.reason));
  socket.on('data', () => result.resolve('byte'));
  socket.on('error', (error) => result.reject(error));
  socket.on('end', () => result.resolve('closed'));
  socket.on('close', () => closed.resolve(undefined));
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  try {
    return await result.promise;
  } finally {
    signal.removeEventListener('abort', abort);
    socket.destroy();
    await closed.promise;
  }
}

/**
 * Closing descriptor 5 means ready, but a process that ends closes it as well. The kernel marks a process as exiting
 * before it closes anything of it (proc_pid_stat(5), `flags`), so the two can be told apart for certain.
 */
function isExiting(host: ConsoleHost, pid: number): boolean {
  let stat: string;
  try {
    stat = host.readText(`/proc/${pid}/stat`);
  } catch {
    return true;
  }
  // The command's name, in parentheses, may hold anything; `flags` is the seventh field behind it.
  const flags = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[6]);
  return (flags & PF_EXITING) !== 0;
}
