import { Socket } from 'node:net';
import type { OwnedFd } from '../../host/host.ts';
import type { ConsoleSpool } from './console-spool.ts';
import type { OutputSink } from './output-sink.ts';
import { SpoolCursor } from './spool-cursor.ts';

const STALL_MS = 10_000;

export interface PipeOutputOptions {
  /** How this output is called in reports, as in `stdout /run/…/stdout`. */
  readonly label: string;
  /** Milliseconds without progress after which `finish` gives the reader up. Default 10 s. */
  readonly stallMs?: number | undefined;
  readonly report?: ((sentence: string) => void) | undefined;
}

/**
 * Writes the spool into a pipe at its reader's pace: one chunk is in flight, the next is taken when the pipe took it,
 * so nothing waits in memory and nothing wakes up while the reader is absent.
 */
export class PipeOutput implements OutputSink {
  readonly #socket: Socket;
  readonly #keepOpen: OwnedFd | undefined;
  readonly #cursor: SpoolCursor;
  readonly #following: Disposable;
  readonly #closed: Promise<void>;
  readonly #options: PipeOutputOptions;
  #writing = false;
  #finishing = false;

  /**
   * Owns both descriptors from here on. `writeEnd` is O_WRONLY|O_NONBLOCK. `keepOpen` is a read end of the same pipe
   * that is held, never read, so that a reader who leaves neither breaks the pipe nor takes its contents along.
   */
  constructor(
    spool: ConsoleSpool,
    writeEnd: OwnedFd,
    keepOpen: OwnedFd | undefined,
    options: PipeOutputOptions,
  ) {
    this.#options = options;
    this.#keepOpen = keepOpen;
    this.#cursor = new SpoolCursor(spool);
    // The socket closes the descriptor; `writeEnd` must not do so a second time, when the number may be another's.
    try {
      this.#socket = new Socket({ fd: writeEnd.fd, readable: false, writable: true });
    } catch (error) {
      writeEnd[Symbol.dispose]();
      throw error;
    }
    this.#socket.on('error', (error) => this.#broken(error));
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#closed = promise;
    this.#socket.on('close', () => resolve(undefined));
    this.#following = spool.follow(() => this.#pump());
  }

  /** Without its own read end only readers keep the pipe: where none is left, the pending write fails and ends it. */
  finish({ signal }: { readonly signal?: AbortSignal | undefined } = {}): Promise<void> {
    if (this.#finishing) return this.#closed;
    this.#finishing = true;
    this.#keepOpen?.[Symbol.dispose]();
    const stall = this.#options.stallMs ?? STALL_MS;
    // A socket's idle timer counts a partly taken chunk as life, and runs only now.
    this.#socket.setTimeout(stall, () => this.#giveUp(`its reader took nothing for ${stall} ms`));
    const abort = (): void => this.#giveUp('the wait for its reader was canceled');
    signal?.addEventListener('abort', abort, { once: true });
    if (signal?.aborted === true) abort();
    else this.#pump();
    return this.#closed.finally(() => signal?.removeEventListener('abort', abort));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#finishing) this.#keepOpen?.[Symbol.dispose]();
    this.#finishing = true;
    this.#close();
    await this.#closed;
  }

  #pump(): void {
    if (this.#writing || this.#socket.destroyed) return;
    const chunk = this.#cursor.take();
    if (chunk === undefined) {
      if (this.#finishing) this.#close();
      return;
    }
    this.#writing = true;
    this.#socket.write(chunk, (error) => {
      this.#writing = false;
      if (error === undefined || error === null) this.#pump();
    });
  }

  #broken(error: NodeJS.ErrnoException): void {
    this.#following[Symbol.dispose]();
    const why = error.code === 'EPIPE' ? 'nobody reads it' : error.message;
    this.#options.report?.(`${this.#options.label} has ended, output goes to the console log only: ${why}`);
  }

  #giveUp(why: string): void {
    if (this.#socket.destroyed) return;
    this.#options.report?.(`${this.#options.label} was closed before all was delivered: ${why}`);
    this.#close();
  }

  #close(): void {
    this.#following[Symbol.dispose]();
    this.#socket.destroy();
  }
}
