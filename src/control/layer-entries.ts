import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { extract } from 'tar-stream';
import { VmError } from '../core/errors.ts';
import { HEADER_BYTES } from '../storage/qcow2-header.ts';

/** An entry of an image's root file system. */
export interface RootfsEntry {
  readonly kind: 'file' | 'directory' | 'other';
  /** Bytes. */
  readonly size: number;
  /** Beginning and end of a file in `/disk`, as much as a header check looks at. */
  readonly head: Buffer;
  readonly tail: Buffer;
}

/** By absolute path. */
export type Rootfs = Map<string, RootfsEntry>;

const TAIL_BYTES = 512;
/** No image of a VM has nearly as many, and each costs memory. */
const MAX_ENTRIES = 200_000;
const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';

/**
 * Puts a layer's entries over what is there already, with the deletions that it states. Source: OCI image-spec layer.md.
 * @throws VmError InvalidArgument for a layer that is no tar or compressed in a way we do not know.
 */
export async function applyLayer(
  rootfs: Rootfs,
  blob: AsyncIterable<Buffer>,
  mediaType: string,
  signal: AbortSignal,
): Promise<void> {
  const archive = extract();
  const unpacker = makeUnpacker(mediaType);
  const source = Readable.from(blob, { objectMode: false });
  // A stream of another kind than Node's, which its pipeline takes at run time.
  const sink = archive as unknown as NodeJS.WritableStream;
  const fed =
    unpacker === undefined
      ? pipeline(source, sink, { signal })
      : pipeline(source, unpacker, sink, { signal });
  fed.catch(() => undefined);
  try {
    for await (const entry of archive) {
      const path = `/${entry.header.name.replace(/^(\.?\/)+/, '').replace(/\/$/, '')}`;
      const inDisk = /^\/disk\/[^/]+$/.test(path);
      const parts = inDisk && entry.header.type === 'file' ? await ends(entry) : NO_ENDS;
      entry.resume();
      put(rootfs, path, { kind: kindOf(entry.header.type), size: entry.header.size, ...parts });
    }
    await fed;
  } catch (error) {
    if (signal.aborted) throw VmError.from(signal.reason);
    if (VmError.is(error)) throw error;
    throw new VmError(
      'InvalidArgument',
      `the image has a layer that is damaged: ${VmError.from(error).message}`,
      {
        cause: error,
      },
    );
  }
}

const NO_ENDS = { head: Buffer.alloc(0), tail: Buffer.alloc(0) };

function put(rootfs: Rootfs, path: string, entry: RootfsEntry): void {
  const slash = path.lastIndexOf('/') + 1;
  const name = path.slice(slash);
  if (name === OPAQUE) removeBelow(rootfs, path.slice(0, slash));
  else if (name.startsWith(WHITEOUT)) {
    const gone = `${path.slice(0, slash)}${name.slice(WHITEOUT.length)}`;
    rootfs.delete(gone);
    removeBelow(rootfs, `${gone}/`);
  } else {
    if (entry.kind !== 'directory') removeBelow(rootfs, `${path}/`);
    rootfs.set(path, entry);
    if (rootfs.size > MAX_ENTRIES)
      throw new VmError(
        'InvalidArgument',
        `the image has more than ${MAX_ENTRIES} files; that is no image of a VM`,
      );
  }
}

function removeBelow(rootfs: Rootfs, prefix: string): void {
  for (const path of rootfs.keys()) if (path.startsWith(prefix)) rootfs.delete(path);
}

async function ends(entry: AsyncIterable<unknown>): Promise<{ head: Buffer; tail: Buffer }> {
  let head = Buffer.alloc(0);
  let tail = Buffer.alloc(0);
  for await (const chunk of entry as AsyncIterable<Buffer>) {
    if (head.length < HEADER_BYTES)
      head = Buffer.concat([head, chunk.subarray(0, HEADER_BYTES - head.length)]);
    tail = Buffer.from(
      chunk.length >= TAIL_BYTES
        ? chunk.subarray(-TAIL_BYTES)
        : Buffer.concat([tail, chunk]).subarray(-TAIL_BYTES),
    );
  }
  return { head, tail };
}

function kindOf(type: string | null | undefined): RootfsEntry['kind'] {
  return type === 'file' || type === 'directory' ? type : 'other';
}

/** @returns undefined for a layer that is not packed. Media types of OCI and of Docker: `…tar`, `…tar+gzip`, `…tar.gzip`, `…tar+zstd`. */
export function makeUnpacker(mediaType: string): NodeJS.ReadWriteStream | undefined {
  if (/tar$/.test(mediaType)) return undefined;
  if (/tar[.+]gzip$/.test(mediaType)) return createGunzip();
  if (/tar[.+]zstd$/.test(mediaType)) return createZstdDecompress();
  throw new VmError(
    'InvalidArgument',
    `the image has a layer of the kind ${JSON.stringify(mediaType)}, which is no file system`,
  );
}
