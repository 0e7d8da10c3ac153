import { VmError } from '../core/errors.ts';

const WireType = { varint: 0, fixed64: 1, delimited: 2, groupStart: 3, groupEnd: 4, fixed32: 5 } as const;

/**
 * Reads the fields of one protobuf message (https://protobuf.dev/programming-guides/encoding/), just enough for the
 * envelope of a call. Every method throws VmError InvalidArgument when the bytes are no valid message.
 */
export class WireReader {
  readonly #bytes: Buffer;
  #at = 0;
  // The last varint, as two unsigned 32-bit halves: most are small, and a bigint for each would cost.
  #low = 0;
  #high = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.isBuffer(bytes)
      ? bytes
      : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** The next field's tag, `number << 3 | wire type`; 0 at the end of the message. */
  tag(): number {
    if (this.#at === this.#bytes.length) return 0;
    this.#readVarint();
    if (this.#high !== 0 || this.#low >>> 3 === 0) this.#fail('has a field number out of range');
    return this.#low;
  }

  int32(): number {
    this.#readVarint();
    return this.#low | 0;
  }

  int64(): bigint {
    this.#readVarint();
    if (this.#high === 0) return BigInt(this.#low);
    return BigInt.asIntN(64, (BigInt(this.#high) << 32n) | BigInt(this.#low));
  }

  /** A view of the message's bytes, not a copy. */
  bytes(): Buffer {
    const start = this.#enterDelimited();
    return this.#bytes.subarray(start, this.#at);
  }

  string(): string {
    const start = this.#enterDelimited();
    return this.#bytes.toString('utf8', start, this.#at);
  }

  /** Passes over the value of a field that is not known here, groups included. */
  skip(tag: number): void {
    let depth = 0;
    for (let current = tag; ; current = this.tag()) {
      switch (current & 7) {
        case WireType.varint:
          if (current === 0) this.#fail('ends inside a group');
          this.#readVarint();
          break;
        case WireType.fixed64:
          this.#advance(8);
          break;
        case WireType.delimited:
          this.#enterDelimited();
          break;
        case WireType.groupStart:
          depth += 1;
          break;
        case WireType.groupEnd:
          depth -= 1;
          break;
        case WireType.fixed32:
          this.#advance(4);
          break;
        default:
          this.#fail(`has a field of the unknown wire type ${current & 7}`);
      }
      if (depth < 0) this.#fail('ends a group that it did not begin');
      if (depth === 0) return;
    }
  }

  /** Reads the length before a delimited value, passes over the value and returns where it starts. */
  #enterDelimited(): number {
    this.#readVarint();
    const start = this.#at;
    this.#advance(this.#high === 0 ? this.#low : Infinity);
    return start;
  }

  #advance(count: number): void {
    if (count > this.#bytes.length - this.#at) this.#fail('is cut off');
    this.#at += count;
  }

  #readVarint(): void {
    let low = 0;
    let high = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.#bytes[this.#at];
      if (byte === undefined) return this.#fail('is cut off');
      this.#at += 1;
      const bits = byte & 0x7f;
      if (shift < 28) {
        low |= bits << shift;
      } else if (shift === 28) {
        low |= bits << 28;
        high = bits >>> 4;
      } else {
        high |= bits << (shift - 32);
      }
      if (byte < 0x80) {
        this.#low = low >>> 0;
        this.#high = high >>> 0;
        return;
      }
    }
    this.#fail('has a varint of more than ten bytes');
  }

  #fail(problem: string): never {
    throw new VmError(
      'InvalidArgument',
      `the ttrpc envelope ${problem} at byte ${this.#at} of ${this.#bytes.length}; send a protobuf message`,
    );
  }
}
