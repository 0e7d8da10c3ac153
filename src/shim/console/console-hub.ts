import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { VmError } from '../../core/errors.ts';
import { type AttachOptions, type ConsoleAttachment, ConsoleViewer } from './console-viewer.ts';
import type { ConsoleSpool } from './console-spool.ts';
import type { InputTarget } from './stdin-fifo.ts';

/** sun_path holds 108 bytes with its final NUL (unix(7)). */
const SUN_PATH_BYTES = 107;

/**
 * The one connection to a VM's serial console, one after another where QEMU is ended and started. It reads as fast as QEMU sends, always: a guest must not wait for
 * whoever looks at it. Output goes to the spool, from where the task's stdout and any number of viewers take it; input
 * from all of them goes to QEMU in the order of the calls, as fast as QEMU takes it.
 */
export class ConsoleHub implements InputTarget, AsyncDisposable {
  readonly spool: ConsoleSpool;
  /** Resolves when no QEMU will say anything any more and all they sent is in the spool. Never rejects. */
  readonly ended: Promise<void>;
  readonly inputOpen: Promise<void>;
  readonly #input = Promise.withResolvers<undefined>();
  readonly #end = Promise.withResolvers<undefined>();
  readonly #viewers = new Set<ConsoleViewer>();
  /** Whether QEMU's end is not the console's: the VM may be switched on again. */
  readonly #mayReturn: boolean;
  #socket: Socket | undefined;
  /** Settles when the last connection is over and all it sent is in the spool. */
  #idle: Promise<void> = Promise.resolve();
  #over = false;

  /**
   * Takes over the connected socket and the spool. Input is held back until `openInput`.
   * @param until the VM's end; without it the console ends with its connection.
   */
  constructor(socket: Socket, spool: ConsoleSpool, until?: Promise<unknown>) {
    this.spool = spool;
    this.ended = this.#end.promise;
    this.inputOpen = this.#input.promise;
    this.inputOpen.catch(() => undefined);
    this.#mayReturn = until !== undefined;
    this.#join(socket);
    void (until ?? this.#idle).then(async () => {
      await this.#idle;
      this.#finish();
    });
  }

  /** Connects to QEMU's console socket. On failure (Unavailable) the spool stays the caller's. */
  static async connect(
    path: string,
    spool: ConsoleSpool,
    options: { readonly signal: AbortSignal; readonly until?: Promise<unknown> },
  ): Promise<ConsoleHub> {
    return new ConsoleHub(await connectConsole(path, options.signal), spool, options.until);
  }

  /** Connects to the console of the VM's next QEMU, after all that the last one has said. Throws as `connect`. */
  async reconnect(path: string, signal: AbortSignal): Promise<void> {
    await this.#idle;
    const socket = await connectConsole(path, signal);
    if (this.#over) {
      socket.destroy();
      throw consoleEnded();
    }
    this.#join(socket);
  }

  /** The guest runs: input that waited goes to it. */
  openInput(): void {
    this.#input.resolve(undefined);
  }

  /**
   * Resolves when QEMU took the data; while the VM is off it goes nowhere, as on any serial line. Throws FailedPrecondition
   * when the console has ended.
   */
  async write(data: Uint8Array): Promise<void> {
    await this.inputOpen;
    const socket = this.#socket;
    if (this.#over || (socket === undefined && !this.#mayReturn)) throw consoleEnded();
    if (socket === undefined) return;
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    socket.write(data, (error) => {
      if (error === undefined || error === null || this.#mayReturn) resolve(undefined);
      else reject(consoleEnded(error));
    });
    await promise;
  }

  attach(options: AttachOptions = {}): ConsoleAttachment {
    const viewer = new ConsoleViewer(this.spool, options);
    this.#viewers.add(viewer);
    return {
      output: viewer,
      write: async (data) => {
        if (viewer.disposed) throw new VmError('FailedPrecondition', 'this view of the console was closed');
        await this.write(data);
      },
      [Symbol.dispose]: () => {
        viewer[Symbol.dispose]();
        this.#viewers.delete(viewer);
      },
    };
  }

  /** Ends the connection and every view, closes the log. The guest runs on without a console. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#over = true;
    this.#socket?.destroy();
    await this.#idle;
    this.#finish();
    for (const viewer of this.#viewers) viewer[Symbol.dispose]();
    this.#viewers.clear();
    this.spool[Symbol.dispose]();
  }

  #join(socket: Socket): void {
    this.#socket = socket;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#idle = promise;
    socket.on('data', (chunk: Buffer) => this.spool.append(chunk));
    // Input that QEMU did not take must not delay the end.
    socket.on('end', () => socket.destroy());
    // A reset is an end like any other: QEMU was killed.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#socket = undefined;
      resolve(undefined);
    });
  }

  #finish(): void {
    this.#over = true;
    this.spool.close();
    this.#input.reject(consoleEnded());
    this.#end.resolve(undefined);
  }
}

async function connectConsole(path: string, signal: AbortSignal): Promise<Socket> {
  if (Buffer.byteLength(path) > SUN_PATH_BYTES) {
    throw new VmError(
      'InvalidArgument',
      `console socket ${path} is longer than ${SUN_PATH_BYTES} bytes: choose a shorter state_dir`,
    );
  }
  signal.throwIfAborted();
  const socket = connect({ path });
  try {
    await once(socket, 'connect', { signal });
    return socket;
  } catch (error) {
    socket.on('error', () => undefined);
    socket.destroy();
    const failure = VmError.from(error, `cannot connect to the console ${path}`);
    throw failure.kind === 'Unknown'
      ? new VmError('Unavailable', failure.message, { cause: error })
      : failure;
  }
}

function consoleEnded(cause?: Error): VmError {
  return new VmError('FailedPrecondition', 'the console has ended because the VM is not running any more', {
    cause,
  });
}
