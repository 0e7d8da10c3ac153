import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { VmError } from '../../core/errors.ts';
import { type AttachOptions, type ConsoleAttachment, ConsoleViewer } from './console-viewer.ts';
import type { ConsoleSpool } from './console-spool.ts';
import type { InputTarget } from './stdin-fifo.ts';

/** sun_path holds 108 bytes with its final NUL (unix(7)). */
const SUN_PATH_BYTES = 107;

/**
 * The one connection to a VM's serial console. It reads as fast as QEMU sends, always: a guest must not wait for
 * whoever looks at it. Output goes to the spool, from where the task's stdout and any number of viewers take it; input
 * from all of them goes to QEMU in the order of the calls, as fast as QEMU takes it.
 */
export class ConsoleHub implements InputTarget, AsyncDisposable {
  readonly spool: ConsoleSpool;
  /** Resolves when QEMU has closed the console and all it sent is in the spool. Never rejects. */
  readonly ended: Promise<void>;
  readonly inputOpen: Promise<void>;
  readonly #socket: Socket;
  readonly #input = Promise.withResolvers<undefined>();
  readonly #viewers = new Set<ConsoleViewer>();

  /** Takes over the connected socket and the spool. Input is held back until `openInput`. */
  constructor(socket: Socket, spool: ConsoleSpool) {
    this.#socket = socket;
    this.spool = spool;
    this.inputOpen = this.#input.promise;
    this.inputOpen.catch(() => undefined);
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.ended = promise;
    socket.on('data', (chunk: Buffer) => spool.append(chunk));
    // Input that QEMU did not take must not delay the end.
    socket.on('end', () => socket.destroy());
    // A reset is an end like any other: QEMU was killed.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      spool.close();
      this.#input.reject(consoleEnded());
      resolve(undefined);
    });
  }

  /** Connects to QEMU's console socket. On failure (Unavailable) the spool stays the caller's. */
  static async connect(
    path: string,
    spool: ConsoleSpool,
    options: { readonly signal: AbortSignal },
  ): Promise<ConsoleHub> {
    if (Buffer.byteLength(path) > SUN_PATH_BYTES) {
      throw new VmError(
        'InvalidArgument',
        `console socket ${path} is longer than ${SUN_PATH_BYTES} bytes: choose a shorter state_dir`,
      );
    }
    options.signal.throwIfAborted();
    const socket = connect({ path });
    try {
      await once(socket, 'connect', { signal: options.signal });
    } catch (error) {
      socket.on('error', () => undefined);
      socket.destroy();
      const failure = VmError.from(error, `cannot connect to the console ${path}`);
      throw failure.kind === 'Unknown'
        ? new VmError('Unavailable', failure.message, { cause: error })
        : failure;
    }
    return new ConsoleHub(socket, spool);
  }

  /** The guest runs: input that waited goes to it. */
  openInput(): void {
    this.#input.resolve(undefined);
  }

  /** Resolves when QEMU took the data. Throws FailedPrecondition when the console has ended. */
  async write(data: Uint8Array): Promise<void> {
    await this.inputOpen;
    if (this.#socket.destroyed) throw consoleEnded();
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    this.#socket.write(data, (error) => {
      if (error === undefined || error === null) resolve(undefined);
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
    this.#socket.destroy();
    await this.ended;
    for (const viewer of this.#viewers) viewer[Symbol.dispose]();
    this.#viewers.clear();
    this.spool[Symbol.dispose]();
  }
}

function consoleEnded(cause?: Error): VmError {
  return new VmError('FailedPrecondition', 'the console has ended because the VM is not running any more', {
    cause,
  });
}
