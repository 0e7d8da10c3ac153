import { Socket } from 'node:net';
import type { OwnedFd } from '../../host/host.ts';
import type { ConsoleHost } from './console-host.ts';
import { openFlags } from '../../host/open-flags.ts';

const { O_NONBLOCK, O_RDONLY, O_WRONLY } = openFlags;

/** Takes input; resolves when there is room for more. */
export interface InputTarget {
  /** Resolves when the guest runs; rejects if it never will. */
  readonly inputOpen: Promise<void>;
  write(data: Uint8Array): Promise<void>;
}

/**
 * The task's stdin fifo, read only as fast as the console takes it and not before the guest runs: until then input
 * waits in the fifo. Our own write end keeps it from ending when a client detaches; `closeInput` (CloseIO) drops it,
 * and the fifo then ends with its last writer. A serial line has no end of file, so the guest sees nothing of that.
 */
export class StdinFifo implements AsyncDisposable {
  readonly #readEnd: OwnedFd;
  readonly #writeEnd: OwnedFd;
  #writeEndOpen = true;
  #disposed = false;
  #socket: Socket | undefined;
  #closed: Promise<void> = Promise.resolve();

  constructor(host: ConsoleHost, path: string, target: InputTarget) {
    this.#readEnd = host.open(path, O_RDONLY | O_NONBLOCK);
    try {
      this.#writeEnd = host.open(path, O_WRONLY | O_NONBLOCK);
    } catch (error) {
      this.#readEnd[Symbol.dispose]();
      throw error;
    }
    void target.inputOpen.then(
      () => this.#read(target),
      () => undefined,
    );
  }

  /** CloseIO: input ends when every client has closed the fifo. */
  closeInput(): void {
    if (!this.#writeEndOpen) return;
    this.#writeEndOpen = false;
    this.#writeEnd[Symbol.dispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.closeInput();
    if (!this.#disposed) {
      this.#disposed = true;
      if (this.#socket === undefined) this.#readEnd[Symbol.dispose]();
      else this.#socket.destroy();
    }
    await this.#closed;
  }

  #read(target: InputTarget): void {
    if (this.#disposed) return;
    // From here on the socket closes the descriptor.
    const socket = new Socket({ fd: this.#readEnd.fd, readable: true, writable: false });
    this.#socket = socket;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#closed = promise;
    socket.on('close', () => resolve(undefined));
    socket.on('error', () => undefined);
    socket.on('end', () => socket.destroy());
    socket.on('data', (data: Buffer) => {
      socket.pause();
      target.write(data).then(
        () => socket.resume(),
        () => socket.destroy(),
      );
    });
  }
}
