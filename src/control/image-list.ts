import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { extract } from 'tar-stream';
import { VmError } from '../core/errors.ts';
import { HEADER_BYTES } from '../storage/qcow2-header.ts';
import type { CallOptions, ContainerdClient } from './containerd-client.ts';
import { readBlob } from './containerd-content.ts';
import { listImages, type NamedImage } from './containerd-images.ts';
import { inspectDisk } from './image-inspect.ts';
import { readImageManifest } from './image-manifest.ts';
import { PINNED } from './image-store.ts';
import { makeUnpacker } from './layer-entries.ts';
import type { Descriptor } from './oci-image.ts';

/** An image with a disk. Sizes are bytes. */
export interface ListedImage {
  readonly name: string;
  readonly manifest: string;
  /** Inside the image. */
  readonly disk: string;
  readonly format: string | undefined;
  readonly virtualSize: number | undefined;
  /** What containerd keeps of it, beside its unpacked form. */
  readonly layerBytes: number;
  /** Whether kubelet leaves it alone. */
  readonly pinned: boolean;
}

/** A disk is the first of its layer's files: nobody has anything else in such an image. */
const PEEK_BYTES = 2 ** 20;

/**
 * The images of a namespace that have a disk, as the beginnings of their layers tell; `vmctl image inspect` reads all of one.
 * What cannot be read, such as an image for other machines or one without its content, is none.
 */
export async function listVmImages(client: ContainerdClient, options: CallOptions): Promise<ListedImage[]> {
  const found: ListedImage[] = [];
  for (const image of withoutAliases(await listImages(client, options))) {
    try {
      const listed = await look(client, image, options);
      if (listed !== undefined) found.push(listed);
    } catch (error) {
      if (!VmError.is(error, 'InvalidArgument') && !VmError.is(error, 'NotFound')) throw error;
    }
  }
  return found;
}

/** The CRI plugin gives an image three names: the one that was asked for, that with the digest, and its own id. */
function withoutAliases(images: readonly NamedImage[]): NamedImage[] {
  const isAlias = ({ name }: NamedImage): boolean => name.startsWith('sha256:') || name.includes('@sha256:');
  const named = new Set(images.filter((image) => !isAlias(image)).map(({ digest }) => digest));
  return images.filter((image) => !isAlias(image) || !named.has(image.digest));
}

async function look(
  client: ContainerdClient,
  { name, labels }: NamedImage,
  options: CallOptions,
): Promise<ListedImage | undefined> {
  const manifest = await readImageManifest(client, name, options);
  for (const layer of manifest.layers) {
    const disk = await peekDisk(client, layer, options);
    if (disk === undefined) continue;
    const { path, head, size } = disk;
    // The end of the file is not here, and only says of other formats that they are these.
    const report = inspectDisk({ name, head, tail: Buffer.alloc(0), fileBytes: size }, true);
    return {
      name,
      manifest: manifest.digest,
      disk: path,
      format: report.format,
      virtualSize: report.virtualSize,
      layerBytes: manifest.layers.reduce((sum, { size }) => sum + size, 0),
      pinned: Object.keys(PINNED).every((label) => labels[label] !== undefined),
    };
  }
  return undefined;
}

interface Disk {
  readonly path: string;
  readonly head: Buffer;
  readonly size: number;
}

/** @returns undefined where the beginning of the layer shows none. */
async function peekDisk(
  client: ContainerdClient,
  { digest, size, mediaType }: Descriptor,
  options: CallOptions,
): Promise<Disk | undefined> {
  const unpacker = makeUnpacker(mediaType);
  const blob = readBlob(client, digest, { offset: 0, length: Math.min(size, PEEK_BYTES) }, options);
  const source = Readable.from(blob, { objectMode: false });
  const archive = extract();
  // A stream of another kind than Node's, which its pipeline takes at run time.
  const sink = archive as unknown as NodeJS.WritableStream;
  const fed = unpacker === undefined ? pipeline(source, sink) : pipeline(source, unpacker, sink);
  // It ends early, or in the middle of an entry.
  const over = fed.catch(() => undefined);
  try {
    for await (const entry of archive) {
      const path = `/${entry.header.name.replace(/^(\.?\/)+/, '')}`;
      if (entry.header.type === 'file' && /^\/disk\/[^/.][^/]*$/.test(path))
        return { path, head: await beginning(entry), size: entry.header.size };
      entry.resume();
    }
  } catch {
    options.signal.throwIfAborted();
  } finally {
    archive.destroy();
    source.destroy();
    await over;
  }
  return undefined;
}

async function beginning(entry: AsyncIterable<unknown>): Promise<Buffer> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const chunk of entry as AsyncIterable<Buffer>) {
    parts.push(chunk);
    size += chunk.length;
    if (size >= HEADER_BYTES) break;
  }
  return Buffer.concat(parts).subarray(0, HEADER_BYTES);
}
