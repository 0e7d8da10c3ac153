import { constants } from 'node:os';
import { VmError } from '../core/errors.ts';
import type { Host, ProcessExit, SpawnedProcess, SpawnPlan } from '../host/host.ts';
import { killIdentity } from '../host/kill-identity.ts';
import { loadNative } from '../host/native.ts';
import { watchProcessEnd } from '../host/process-end.ts';
import { bootId, type ProcessIdentity, readIdentity } from '../host/process-identity.ts';
import { QemuLog } from './qemu-log.ts';
import { QmpClient, type QmpEventHandler } from './qmp-client.ts';

const { SIGKILL, SIGSYS, SIGTERM } = constants.signals;

export interface QemuStart extends Pick<SpawnPlan, 'uid' | 'gid' | 'network' | 'cwd'> {
  /** Absolute path of the QEMU program. */
  readonly file: string;
  /** The plan: `fds` tells how many descriptors its arguments count on. */
  readonly command: { readonly args: readonly string[]; readonly fds: readonly unknown[] };
  /** Ours, in child order: `fds[i]` becomes 3 + i. One of them is the QMP socket, bound to `qmpPath` and listening. */
  readonly fds: readonly number[];
  /**
   * Closes our copies of `fds`; called once, as soon as the child has its own or the start has failed. If we kept the
   * listening socket, the kernel would hold our connection to a dead QEMU open for ever.
   */
  readonly fdOwner: Disposable;
  readonly qmpPath: string;
  readonly logPath: string;
  /** Added to QEMU's environment, which is otherwise empty but for a locale. */
  readonly env?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /** Called between spawn and QMP, so that the record knows the process before anything can go wrong with it. */
  readonly onSpawn?: (identity: ProcessIdentity) => void;
  /** Sees every QMP event from the first one on. */
  readonly onEvent?: QmpEventHandler;
}

/** A QEMU that runs already and whose shim has died. */
export interface QemuAdoption {
  readonly identity: ProcessIdentity;
  readonly qmpPath: string;
  readonly log: QemuLog;
  readonly signal: AbortSignal;
}

/** How long a QEMU that broke its QMP connection may take to end by itself and so to tell its exit status. */
const endGraceMs = 2000;
/** How long the last events of a dead one may take. */
const DRAIN_MS = 1000;

/** The one owner of a QEMU process: nothing else signals it or waits for it. */
export class QemuProcess implements AsyncDisposable {
  readonly identity: ProcessIdentity;
  readonly qmp: QmpClient;
  readonly log: QemuLog;
  /**
   * Resolves when the kernel has told of the end and the events that QEMU sent before it were delivered. Never rejects.
   */
  readonly exited: Promise<ProcessExit>;
  readonly #child: Child;

  /**
   * Starts QEMU and resolves when it takes QMP commands. Throws FailedPrecondition with QEMU's own words when it
   * refuses to start, Internal when a signal ends it, Canceled or DeadlineExceeded by `signal`; then no process is left.
   */
  static async start(host: Host, options: QemuStart): Promise<QemuProcess> {
    const { child, log } = spawnQemu(host, options);
    await using undo = new AsyncDisposableStack();
    undo.defer(() => child.destroy());
    options.onSpawn?.(child.identity);
    const qmp = await connectQmp(child, log, options);
    undo.move();
    return new QemuProcess(child, qmp, log);
  }

  /**
   * Takes over a QEMU that runs. It is not our child, so its exit status stays unknown: one that announced its end by a
   * SHUTDOWN event has exited with 0, any other was killed.
   * @throws VmError Unavailable when it does not take QMP commands, Canceled or DeadlineExceeded by `signal`; it runs on then.
   */
  static async adopt(host: Host, { identity, qmpPath, log, signal }: QemuAdoption): Promise<QemuProcess> {
    const end = watchProcessEnd(host, loadNative(), identity);
    using undo = new DisposableStack();
    undo.use(end);
    let announced = false;
    const qmp = await QmpClient.connect(qmpPath, {
      signal,
      onEvent: ({ name }) => {
        if (name === 'SHUTDOWN') announced = true;
      },
    });
    const { startTime, bootId: boot, pid } = identity;
    const exited = end.ended.then(async (): Promise<ProcessExit> => {
      // Its last events come first; they tell how it ended.
      await closedWithin(qmp, DRAIN_MS);
      return announced ? { kind: 'exited', code: 0 } : { kind: 'signaled', signal: SIGKILL };
    });
    undo.move();
    return new QemuProcess(new Child(host, { pid, exited }, boot, startTime), qmp, log);
  }

  private constructor(child: Child, qmp: QmpClient, log: QemuLog) {
    this.#child = child;
    this.identity = child.identity;
    this.qmp = qmp;
    this.log = log;
    this.exited = drainedExit(child, qmp);
    const small = log.keepSmall();
    void this.exited.then(() => small[Symbol.dispose]());
  }

  get pid(): number {
    return this.identity.pid;
  }

  /** SIGKILL; nothing happens when QEMU has ended. */
  kill(): void {
    this.#child.kill();
  }

  /** SIGTERM, by which QEMU flushes its disks and exits, and SIGKILL after `graceMs`. Resolves after the end. */
  async terminate(graceMs: number): Promise<ProcessExit> {
    this.#child.signal(SIGTERM);
    await this.#child.endWithin(graceMs);
    return this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child.destroy();
    await this.exited;
  }
}

/** A spawned process that is only ever signaled as itself. */
class Child {
  readonly identity: ProcessIdentity;
  readonly exited: Promise<ProcessExit>;
  readonly #host: Host;
  #ended = false;

  constructor(host: Host, spawned: SpawnedProcess, boot: string, startTime: number) {
    this.#host = host;
    const { pid } = spawned;
    this.identity = { pid, startTime, bootId: boot };
    this.exited = spawned.exited.then((exit) => {
      this.#ended = true;
      return exit;
    });
  }

  signal(signal: number): void {
    if (!this.#ended) killIdentity(this.#host, loadNative(), this.identity, signal);
  }

  kill(): void {
    this.signal(SIGKILL);
  }

  /** Waits for the end, at most `graceMs`, then kills. Resolves after the end, to whether it had to kill. */
  async endWithin(graceMs: number): Promise<boolean> {
    let killed = false;
    const deadline = setTimeout(() => {
      killed = true;
      this.kill();
    }, graceMs);
    await this.exited;
    clearTimeout(deadline);
    return killed;
  }

  async destroy(): Promise<void> {
    this.kill();
    // The timer also keeps the event loop alive, which a spawned process does not.
    await this.endWithin(endGraceMs);
  }
}

function spawnQemu(host: Host, options: QemuStart): { child: Child; log: QemuLog } {
  using owner = new DisposableStack();
  owner.use(options.fdOwner);
  if (options.signal?.aborted === true) throw VmError.from(options.signal.reason, 'starting QEMU');
  const { args, fds } = options.command;
  if (fds.length !== options.fds.length) {
    throw new VmError(
      'Internal',
      `QEMU's arguments count on ${fds.length} descriptors, not ${options.fds.length}`,
    );
  }
  const boot = bootId(host);
  const { log, fd } = QemuLog.create(host, options.logPath);
  owner.use(fd);
  const spawned = host.spawn({
    file: options.file,
    args,
    env: { LC_ALL: 'C', ...options.env },
    cwd: options.cwd,
    uid: options.uid,
    gid: options.gid,
    network: options.network,
    fds: [null, fd.fd, fd.fd, ...options.fds],
  });
  // Nobody has reaped it yet, so it has a start time even if it has ended; -1 would be no process at all.
  const startTime = readIdentity(host, spawned.pid)?.startTime ?? -1;
  return { child: new Child(host, spawned, boot, startTime), log };
}

async function connectQmp(child: Child, log: QemuLog, options: QemuStart): Promise<QmpClient> {
  const { signal, qmpPath, onEvent } = options;
  const gone = new AbortController();
  void child.exited.then(() => gone.abort());
  try {
    return await QmpClient.connect(qmpPath, {
      signal: signal === undefined ? gone.signal : AbortSignal.any([signal, gone.signal]),
      ...(onEvent === undefined ? {} : { onEvent }),
    });
  } catch (error) {
    if (signal?.aborted === true) throw VmError.from(signal.reason, 'starting QEMU');
    const killed = await child.endWithin(endGraceMs);
    if (killed) throw VmError.from(error, 'QEMU did not start');
    throw startFailure(await child.exited, log, error);
  }
}

function startFailure(exit: ProcessExit, log: QemuLog, cause: unknown): VmError {
  const words = log.tail(4).join('; ');
  const said = words === '' ? `it left nothing in ${log.path}` : words;
  if (exit.kind === 'exited') {
    return new VmError('FailedPrecondition', `QEMU did not start (exit status ${exit.code}): ${said}`, {
      cause,
    });
  }
  const sandbox = exit.signal === SIGSYS ? ', a system call that its seccomp sandbox denies' : '';
  return new VmError('Internal', `QEMU did not start (signal ${exit.signal}${sandbox}): ${said}`, { cause });
}

async function drainedExit(child: Child, qmp: QmpClient): Promise<ProcessExit> {
  const exit = await child.exited;
  await closedWithin(qmp, DRAIN_MS);
  return exit;
}

/**
 * A dead QEMU's last events, then the end of the stream, are already in our socket's buffer. The limit is for a socket that
 * somebody else still holds: the exit is the kernel's word and waits for no one.
 */
async function closedWithin(qmp: QmpClient, ms: number): Promise<void> {
  const deadline = setTimeout(() => qmp.close(), ms);
  await qmp.closed;
  clearTimeout(deadline);
}
