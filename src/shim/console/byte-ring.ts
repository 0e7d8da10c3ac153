const FIRST_CAPACITY = 4096;

/**
 * The last `limit` bytes of a stream, addressed by their offset in that stream. Memory grows with what was pushed, so a
 * quiet stream costs next to nothing, and never above `limit`.
 */
export class ByteRing {
  readonly #limit: number;
  #bytes = Buffer.alloc(0);
  #end: number;
  #length = 0;

  /** `origin` is the stream offset of the first byte that will be pushed. */
  constructor(limit: number, origin: number) {
    this.#limit = limit;
    this.#end = origin;
  }

  /** Offset of the oldest byte held. */
  get start(): number {
    return this.#end - this.#length;
  }

  /** Offset after the newest byte. */
  get end(): number {
    return this.#end;
  }

  push(chunk: Uint8Array): void {
    const kept = chunk.length > this.#limit ? chunk.subarray(chunk.length - this.#limit) : chunk;
    this.#reserve(Math.min(this.#limit, this.#length + kept.length));
    this.#end += chunk.length - kept.length;
    this.#place(kept, this.#end);
    this.#end += kept.length;
    this.#length = Math.min(this.#bytes.length, this.#length + kept.length);
  }

  /** A copy of up to `max` bytes from offset `from`, which must lie in [start, end]. */
  read(from: number, max: number): Buffer {
    const length = Math.min(max, this.#end - from);
    const out = Buffer.allocUnsafe(length);
    const capacity = this.#bytes.length;
    for (let done = 0; done < length;) {
      const at = (from + done) % capacity;
      done += this.#bytes.copy(out, done, at, Math.min(capacity, at + length - done));
    }
    return out;
  }

  #reserve(wanted: number): void {
    if (wanted <= this.#bytes.length) return;
    let capacity = Math.max(FIRST_CAPACITY, this.#bytes.length);
    while (capacity < wanted) capacity *= 2;
    const held = this.read(this.start, this.#length);
    this.#bytes = Buffer.alloc(Math.min(capacity, this.#limit));
    this.#place(held, this.start);
  }

  #place(data: Uint8Array, offset: number): void {
    const capacity = this.#bytes.length;
    for (let done = 0; done < data.length;) {
      const at = (offset + done) % capacity;
      const part = data.subarray(done, done + capacity - at);
      this.#bytes.set(part, at);
      done += part.length;
    }
  }
}
