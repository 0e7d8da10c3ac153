import { VmError } from '../core/errors.ts';

/** Length in bytes of the header before every frame's data. */
export const HEADER_LENGTH = 10;

/** The most data one frame may carry, 4 MiB, the same for every ttrpc implementation. */
export const MAX_DATA_LENGTH = 4 << 20;

/** Frame types. A receiver ignores types it does not know. */
export const FrameType = { request: 1, response: 2, data: 3 } as const;

/** Bits of a frame's flags. */
export const FrameFlag = {
  /** The sender sends nothing more on this stream. */
  remoteClosed: 1,
  /** The sender of a request goes on with Data frames. */
  remoteOpen: 2,
  /** A Data frame without a message, as opposed to one with an empty message. */
  noData: 4,
} as const;

/** One frame. `data` may be a view of the chunk that it came in. */
export interface Frame {
  readonly kind: 'frame';
  /** Unsigned 32 bits. Streams that a client starts are odd. */
  readonly streamId: number;
  readonly type: number;
  readonly flags: number;
  readonly data: Uint8Array;
}

/** What is left of a frame whose data exceeded the limit: the data itself is discarded while it streams in. */
export interface OversizeFrame {
  readonly kind: 'oversize';
  readonly streamId: number;
  readonly type: number;
  readonly flags: number;
  /** The length that the header announced. */
  readonly length: number;
}

export type DecodedFrame = Frame | OversizeFrame;

interface Header {
  readonly streamId: number;
  readonly type: number;
  readonly flags: number;
}

const NO_DATA = Buffer.alloc(0);

/**
 * Splits a byte stream into frames. It never fails, whatever the bytes are, and never holds more than one frame's
 * data. An oversize frame is reported as soon as its header is there.
 *
 * A frame: length of the data (u32 big endian), stream id (u32 big endian), type (u8), flags (u8), data.
 */
export class FrameDecoder {
  readonly #header = Buffer.alloc(HEADER_LENGTH);
  #headerFill = 0;
  #partial: { readonly header: Header; readonly data: Buffer; fill: number } | undefined;
  #discard = 0;
  readonly #maxDataLength: number;

  constructor(options: { maxDataLength?: number } = {}) {
    this.#maxDataLength = options.maxDataLength ?? MAX_DATA_LENGTH;
  }

  /** The frames that `chunk` completes, in order. The caller must not change `chunk` afterwards. */
  push(chunk: Uint8Array): DecodedFrame[] {
    const bytes = Buffer.isBuffer(chunk)
      ? chunk
      : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const frames: DecodedFrame[] = [];
    let at = 0;
    while (at < bytes.length) {
      if (this.#discard > 0) {
        const skipped = Math.min(this.#discard, bytes.length - at);
        this.#discard -= skipped;
        at += skipped;
      } else if (this.#partial !== undefined) {
        at = this.#continue(bytes, at, this.#partial, frames);
      } else if (this.#headerFill === 0 && bytes.length - at >= HEADER_LENGTH) {
        at = this.#begin(bytes, at, bytes, at + HEADER_LENGTH, frames);
      } else {
        const copied = bytes.copy(this.#header, this.#headerFill, at, at + HEADER_LENGTH - this.#headerFill);
        this.#headerFill += copied;
        at += copied;
        if (this.#headerFill === HEADER_LENGTH) {
          this.#headerFill = 0;
          at = this.#begin(this.#header, 0, bytes, at, frames);
        }
      }
    }
    return frames;
  }

  /** Takes the header at `head` of `source` and as much of its data as `bytes` has at `at`; returns where it stopped. */
  #begin(source: Buffer, head: number, bytes: Buffer, at: number, frames: DecodedFrame[]): number {
    const length = source.readUInt32BE(head);
    const header = {
      streamId: source.readUInt32BE(head + 4),
      type: source.readUInt8(head + 8),
      flags: source.readUInt8(head + 9),
    };
    if (length > this.#maxDataLength) {
      frames.push({ kind: 'oversize', ...header, length });
      this.#discard = length;
      return at;
    }
    if (bytes.length - at >= length) {
      const data = length === 0 ? NO_DATA : bytes.subarray(at, at + length);
      frames.push({ kind: 'frame', ...header, data });
      return at + length;
    }
    // One buffer for the whole frame: a list of chunks would cost a peer that sends single bytes a hundredfold.
    this.#partial = { header, data: Buffer.allocUnsafeSlow(length), fill: 0 };
    return at;
  }

  #continue(
    bytes: Buffer,
    at: number,
    partial: { readonly header: Header; readonly data: Buffer; fill: number },
    frames: DecodedFrame[],
  ): number {
    const copied = bytes.copy(partial.data, partial.fill, at);
    partial.fill += copied;
    if (partial.fill === partial.data.length) {
      frames.push({ kind: 'frame', ...partial.header, data: partial.data });
      this.#partial = undefined;
    }
    return at + copied;
  }
}

/**
 * A frame with its header filled in and `dataLength` bytes of uninitialised space for the data after it.
 * @throws VmError ResourceExhausted when the data would exceed 4 MiB.
 */
export function allocateFrame(streamId: number, type: number, flags: number, dataLength: number): Buffer {
  if (dataLength > MAX_DATA_LENGTH) {
    throw new VmError(
      'ResourceExhausted',
      `a message of ${dataLength} bytes exceeds the limit of ${MAX_DATA_LENGTH} bytes; send less at once`,
    );
  }
  const frame = Buffer.allocUnsafe(HEADER_LENGTH + dataLength);
  frame.writeUInt32BE(dataLength, 0);
  frame.writeUInt32BE(streamId, 4);
  frame[8] = type;
  frame[9] = flags;
  return frame;
}

/**
 * The bytes of one frame.
 * @throws VmError ResourceExhausted when `data` exceeds 4 MiB.
 */
export function encodeFrame(streamId: number, type: number, flags: number, data?: Uint8Array): Buffer {
  const frame = allocateFrame(streamId, type, flags, data?.byteLength ?? 0);
  if (data !== undefined) frame.set(data, HEADER_LENGTH);
  return frame;
}
