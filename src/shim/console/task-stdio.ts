import { VmError } from '../../core/errors.ts';
import type { ConsoleHost } from './console-host.ts';
import type { ConsoleHub } from './console-hub.ts';
import { openFifoOutput } from './fifo-output.ts';
import { FileOutput } from './file-output.ts';
import { LoggerOutput, type LoggerOptions } from './logger-output.ts';
import { openFlags } from '../../host/open-flags.ts';
import type { OutputSink } from './output-sink.ts';
import { StdinFifo } from './stdin-fifo.ts';
import type { StdioPlan } from './stdio-plan.ts';

const { O_NONBLOCK, O_RDWR } = openFlags;

/** Who the task is, where scratch files may be made, and the clocks of finishing. */
export type TaskStdioOptions = LoggerOptions;

/** Size of a terminal in characters. */
export interface TerminalSize {
  readonly width: number;
  readonly height: number;
}

/** A task's stdin, stdout and stderr, joined to the VM's serial console. */
export class TaskStdio implements AsyncDisposable {
  readonly #hub: ConsoleHub;
  readonly #output: OutputSink | undefined;
  readonly #stdin: StdinFifo | undefined;
  /** Everything open, in the order of opening. */
  readonly #open: AsyncDisposableStack;
  readonly #stderr: DisposableStack;
  #size: TerminalSize | undefined;

  private constructor(
    hub: ConsoleHub,
    output: OutputSink | undefined,
    stdin: StdinFifo | undefined,
    stderr: DisposableStack,
    open: AsyncDisposableStack,
  ) {
    this.#hub = hub;
    this.#output = output;
    this.#stdin = stdin;
    this.#stderr = stderr;
    this.#open = open;
  }

  /**
   * Opens what the plan names; never waits for a peer, only for a logger to say that it is ready. Throws what
   * `Host.open` throws for a path that is not there, InvalidArgument for one that is neither fifo nor file.
   */
  static async open(
    host: ConsoleHost,
    hub: ConsoleHub,
    plan: StdioPlan,
    options: TaskStdioOptions & { readonly signal: AbortSignal },
  ): Promise<TaskStdio> {
    await using open = new AsyncDisposableStack();
    const stderr = open.use(new DisposableStack());
    // Only to be closed at exit: the client waits for the end of every stream it made.
    if (plan.stderr !== undefined && kindOf(host, 'stderr', plan.stderr) === 'fifo') {
      stderr.use(host.open(plan.stderr, O_RDWR | O_NONBLOCK));
    }
    const output = await openOutput(host, hub, plan, options);
    if (output !== undefined) open.use(output);
    const stdin = plan.stdin === undefined ? undefined : openStdin(host, hub, plan.stdin);
    if (stdin !== undefined) open.use(stdin);
    return new TaskStdio(hub, output, stdin, stderr, open.move());
  }

  /** The last size a client told. A serial line carries none, so the guest does not learn it. */
  get size(): TerminalSize | undefined {
    return this.#size;
  }

  resize(size: TerminalSize): void {
    this.#size = size;
  }

  /** CloseIO. */
  closeStdin(): void {
    this.#stdin?.closeInput();
  }

  /**
   * Waits for the console's end (QEMU has gone), hands all its output over and closes every descriptor, so that clients
   * see the end of their streams. Never rejects; `signal` cuts it short.
   */
  async finish(options: { readonly signal?: AbortSignal | undefined } = {}): Promise<void> {
    await endedOrAborted(this.#hub, options.signal);
    this.#stderr.dispose();
    await this.#stdin?.[Symbol.asyncDispose]();
    await this.#output?.finish(options);
  }

  /** Closes at once what is still open, and ends a logger. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#open.disposeAsync();
  }
}

async function openOutput(
  host: ConsoleHost,
  hub: ConsoleHub,
  plan: StdioPlan,
  options: TaskStdioOptions & { readonly signal: AbortSignal },
): Promise<OutputSink | undefined> {
  const { stdout } = plan;
  switch (stdout.kind) {
    case 'discard':
      return undefined;
    case 'file':
      return new FileOutput(host, hub.spool, stdout.path, { create: true, report: options.report });
    case 'logger':
      return LoggerOutput.start(host, hub.spool, stdout, options);
    case 'path':
      return kindOf(host, 'stdout', stdout.path) === 'fifo'
        ? openFifoOutput(host, hub.spool, stdout.path, { ...options, label: `stdout ${stdout.path}` })
        : new FileOutput(host, hub.spool, stdout.path, { create: false, report: options.report });
  }
}

function openStdin(host: ConsoleHost, hub: ConsoleHub, path: string): StdinFifo {
  if (kindOf(host, 'stdin', path) !== 'fifo') {
    throw new VmError('InvalidArgument', `stdin ${JSON.stringify(path)} is a file: give the path of a fifo`);
  }
  return new StdinFifo(host, path, hub);
}

function kindOf(host: ConsoleHost, field: string, path: string): 'fifo' | 'file' {
  const kind = host.inspect(path)?.kind;
  if (kind === 'fifo' || kind === 'file') return kind;
  const what = kind === undefined ? 'does not exist' : `is a ${kind}`;
  throw new VmError(
    kind === undefined ? 'NotFound' : 'InvalidArgument',
    `${field} ${JSON.stringify(path)} ${what}: the client must make a fifo there before it creates the task`,
  );
}

async function endedOrAborted(hub: ConsoleHub, signal: AbortSignal | undefined): Promise<void> {
  const aborted = Promise.withResolvers<undefined>();
  const abort = (): void => aborted.resolve(undefined);
  signal?.addEventListener('abort', abort, { once: true });
  if (signal?.aborted === true) abort();
  await Promise.race([hub.ended, aborted.promise]);
  signal?.removeEventListener('abort', abort);
}
