import type { ConsoleSpool } from './console-spool.ts';

const CHUNK_BYTES = 64 << 10;

export interface SpoolCursorOptions {
  /** Offset to begin at. Default: what comes next. */
  readonly from?: number;
  /** How many bytes it may stay behind before it skips ahead. Default: as many as the spool holds. */
  readonly maxLag?: number;
}

/** One reader's place in the spool. What it missed it sees as one line. */
export class SpoolCursor {
  readonly #spool: ConsoleSpool;
  readonly #maxLag: number;
  #offset: number;

  constructor(spool: ConsoleSpool, options: SpoolCursorOptions = {}) {
    this.#spool = spool;
    this.#maxLag = options.maxLag ?? Number.POSITIVE_INFINITY;
    this.#offset = options.from ?? spool.end;
  }

  /** Bytes not taken yet. */
  get pending(): number {
    return this.#spool.end - this.#offset;
  }

  /** The next chunk, or undefined when there is nothing (yet). */
  take(): Buffer | undefined {
    if (this.pending > this.#maxLag) return this.#skip(this.pending - this.#maxLag);
    const { data, skipped } = this.#spool.read(this.#offset, CHUNK_BYTES);
    if (skipped > 0) return this.#skip(skipped);
    if (data.length === 0) return undefined;
    this.#offset += data.length;
    return data;
  }

  #skip(bytes: number): Buffer {
    this.#offset += bytes;
    return Buffer.from(`\n[vmshim: ${bytes} bytes of console output skipped]\n`);
  }
}
