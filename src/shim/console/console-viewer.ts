import type { ConsoleSpool } from './console-spool.ts';
import { SpoolCursor } from './spool-cursor.ts';

const MAX_LAG = 1 << 20;

export interface AttachOptions {
  /** How much of the past to show first, in bytes, as far as the console log has it. Default 0. */
  readonly replayBytes?: number;
  /** How far a viewer may stay behind, in bytes, before it misses the oldest. Default 1 MiB. */
  readonly maxLagBytes?: number;
}

/** A live look at a console. */
export interface ConsoleAttachment extends Disposable {
  /** Ends with the console or with `dispose`; for one consumer. What a slow one missed appears as a line of ours. */
  readonly output: AsyncIterable<Uint8Array>;
  /** Types into the console; resolves when QEMU took it. Throws FailedPrecondition once the console or the view ended. */
  write(data: Uint8Array): Promise<void>;
}

/** The output half of an attachment: pulls from the spool when its consumer asks, holds nothing. */
export class ConsoleViewer implements AsyncIterableIterator<Uint8Array, undefined>, Disposable {
  readonly #spool: ConsoleSpool;
  readonly #cursor: SpoolCursor;
  readonly #following: Disposable;
  #wake: (() => void) | undefined;
  #disposed = false;

  constructor(spool: ConsoleSpool, options: AttachOptions) {
    const replay = Math.min(options.replayBytes ?? 0, spool.end);
    this.#spool = spool;
    this.#cursor = new SpoolCursor(spool, {
      from: spool.end - replay,
      maxLag: replay + (options.maxLagBytes ?? MAX_LAG),
    });
    this.#following = spool.follow(() => this.#wake?.());
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    while (!this.#disposed) {
      const value = this.#cursor.take();
      if (value !== undefined) return { done: false, value };
      if (this.#spool.closed) break;
      const { promise, resolve } = Promise.withResolvers<undefined>();
      this.#wake = () => resolve(undefined);
      await promise;
      this.#wake = undefined;
    }
    this[Symbol.dispose]();
    return { done: true, value: undefined };
  }

  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this[Symbol.dispose]();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#following[Symbol.dispose]();
    this.#wake?.();
  }
}
