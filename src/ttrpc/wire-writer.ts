/** Bytes that `value` (unsigned, up to 2^53) takes as a varint. */
export function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) size += 1;
  return size;
}

/** Bytes that a varint field takes, its one-byte tag included. */
export function int64FieldSize(value: bigint): number {
  if (value < 0n) return 11;
  let size = 2;
  for (let rest = value; rest >= 0x80n; rest >>= 7n) size += 1;
  return size;
}

/** Bytes that a length-delimited field of `length` bytes takes, its one-byte tag included. */
export function delimitedFieldSize(length: number): number {
  return 1 + varintSize(length) + length;
}

/**
 * Writes protobuf fields (https://protobuf.dev/programming-guides/encoding/) at an offset of a buffer whose size the
 * caller has computed with the functions above. Field numbers are below 16, so that a tag is one byte.
 */
export class WireWriter {
  readonly #buffer: Buffer;
  #at: number;

  constructor(buffer: Buffer, offset: number) {
    this.#buffer = buffer;
    this.#at = offset;
  }

  int64(field: number, value: bigint): void {
    this.#buffer[this.#at++] = field << 3;
    let rest = BigInt.asUintN(64, value);
    for (; rest >= 0x80n; rest >>= 7n) this.#buffer[this.#at++] = Number(rest & 0x7fn) | 0x80;
    this.#buffer[this.#at++] = Number(rest);
  }

  bytes(field: number, value: Uint8Array): void {
    this.delimited(field, value.byteLength);
    this.#buffer.set(value, this.#at);
    this.#at += value.byteLength;
  }

  /** `byteLength` is the length of `text` in UTF-8. */
  string(field: number, text: string, byteLength: number): void {
    this.delimited(field, byteLength);
    this.#at += this.#buffer.write(text, this.#at, byteLength, 'utf8');
  }

  /** Tag and length of an embedded message; its fields are written next. */
  delimited(field: number, length: number): void {
    this.#buffer[this.#at++] = (field << 3) | 2;
    let rest = length;
    for (; rest >= 0x80; rest >>>= 7) this.#buffer[this.#at++] = (rest & 0x7f) | 0x80;
    this.#buffer[this.#at++] = rest;
  }
}
