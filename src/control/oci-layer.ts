import { createHash } from 'node:crypto';
import { type Duplex, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip, createZstdCompress } from 'node:zlib';
import { VmError } from '../core/errors.ts';
import type { LayerCompression } from './oci-image.ts';

/** A layer's tar on its way into an image, compressed as wanted. */
export class OciLayer {
  readonly #plain: AsyncIterable<Buffer>;
  readonly #compression: LayerCompression;
  #diffId: string | undefined;

  constructor(plain: AsyncIterable<Buffer>, compression: LayerCompression) {
    this.#plain = plain;
    this.#compression = compression;
  }

  /** `sha256:…` of the plain tar, once all of it has gone by. Undefined for one that is stored as it is: its digest. */
  get diffId(): string | undefined {
    return this.#diffId;
  }

  /** The bytes to store, once. @throws VmError Canceled. */
  async *stored(signal: AbortSignal): AsyncGenerator<Buffer, void, void> {
    const compressor = makeCompressor(this.#compression);
    if (compressor === undefined) {
      for await (const bytes of this.#plain) {
        if (signal.aborted) throw VmError.from(signal.reason);
        yield bytes;
      }
      return;
    }
    const hash = createHash('sha256');
    const plain = this.#plain;
    const hashed = async function* (): AsyncGenerator<Buffer> {
      for await (const bytes of plain) {
        hash.update(bytes);
        yield bytes;
      }
    };
    const running = pipeline(Readable.from(hashed(), { objectMode: false }), compressor, { signal });
    // Its failure is met below, by the reader of the compressor.
    running.catch(() => undefined);
    try {
      for await (const bytes of compressor) yield bytes as Buffer;
      await running;
    } catch (error) {
      throw signal.aborted ? VmError.from(signal.reason) : error;
    }
    this.#diffId = `sha256:${hash.digest('hex')}`;
  }
}

function makeCompressor(compression: LayerCompression): Duplex | undefined {
  switch (compression) {
    case 'none':
      return undefined;
    case 'gzip':
      return createGzip();
    case 'zstd':
      return createZstdCompress();
  }
}
