import { ByteRing } from './byte-ring.ts';
import type { ConsoleLog } from './console-log.ts';

const MEMORY_BYTES = 256 << 10;

export interface SpoolRead {
  readonly data: Buffer;
  /** Bytes from the asked offset on that nobody holds any more; `data` is empty then. */
  readonly skipped: number;
}

/**
 * The console's output as one stream with offsets, held in the log on disk and its newest part in memory as well.
 * Whoever wants output reads here at its own pace, so a slow reader costs no memory and delays nobody.
 */
export class ConsoleSpool implements Disposable {
  readonly #log: ConsoleLog;
  readonly #tail: ByteRing;
  readonly #followers = new Set<() => void>();
  #closed = false;

  /** Takes over the log: disposing the spool closes it. */
  constructor(log: ConsoleLog, memoryBytes = MEMORY_BYTES) {
    this.#log = log;
    this.#tail = new ByteRing(memoryBytes, log.end);
  }

  /** Offset after the newest byte. */
  get end(): number {
    return this.#tail.end;
  }

  /** No byte will follow. */
  get closed(): boolean {
    return this.#closed;
  }

  append(chunk: Uint8Array): void {
    this.#log.append(chunk);
    this.#tail.push(chunk);
    this.#tell();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#tell();
  }

  /** Calls `listener` after every append and at close, until disposed. */
  follow(listener: () => void): Disposable {
    this.#followers.add(listener);
    return { [Symbol.dispose]: () => void this.#followers.delete(listener) };
  }

  /** Up to `max` bytes from offset `from`. Empty with `skipped` 0 means: nothing newer yet. */
  read(from: number, max: number): SpoolRead {
    if (from >= this.#tail.end) return { data: Buffer.alloc(0), skipped: 0 };
    if (from >= this.#tail.start) return { data: this.#tail.read(from, max), skipped: 0 };
    const data = this.#log.read(from, max);
    if (data !== undefined) return { data, skipped: 0 };
    const next = Math.min(this.#log.nextAfter(from) ?? this.#tail.end, this.#tail.start);
    return { data: Buffer.alloc(0), skipped: next - from };
  }

  [Symbol.dispose](): void {
    this.close();
    this.#followers.clear();
    this.#log[Symbol.dispose]();
  }

  #tell(): void {
    for (const listener of [...this.#followers]) listener();
  }
}
