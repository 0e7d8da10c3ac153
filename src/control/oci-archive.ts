import { createHash } from 'node:crypto';
import { Readable, type Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip, createZstdCompress } from 'node:zlib';
import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import type { ImageName } from './image-name.ts';
import { END_OF_TAR, fileEntry, tarEntryBytes, tarHeaderBlock, tarPadding } from './tar-bytes.ts';

export type LayerCompression = 'none' | 'gzip' | 'zstd';

export interface OciImage {
  readonly name: ImageName;
  /** The only layer, uncompressed. */
  readonly layer: AsyncIterable<Buffer>;
  readonly compression: LayerCompression;
  readonly labels: Readonly<Record<string, string>>;
}

export interface OciArchiveResult {
  /** `sha256:…` of the manifest: what the image is pinned by. */
  readonly manifest: string;
  readonly layer: string;
  /** Size of the archive. */
  readonly bytes: number;
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

const LAYER_TYPES: Readonly<Record<LayerCompression, string>> = {
  none: 'application/vnd.oci.image.layer.v1.tar',
  gzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  zstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
};
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const CONFIG_TYPE = 'application/vnd.oci.image.config.v1+json';
const INDEX_TYPE = 'application/vnd.oci.image.index.v1+json';
const CREATED = '1970-01-01T00:00:00Z';
const HEADER_BYTES = 512;

/**
 * Writes an OCI image layout as one tar, in one pass over the layer. A tar entry's name and size come before its
 * contents, and the layer's name is its digest; so its header is left open and filled in when the layer has gone by.
 * Source: OCI image-spec image-layout.md, manifest.md, config.md.
 * @param fd an empty file.
 */
export async function writeOciArchive(
  host: Host,
  fd: number,
  image: OciImage,
  signal: AbortSignal,
): Promise<OciArchiveResult> {
  let end = 0;
  const append = (bytes: Buffer): void => {
    host.writeBytes(fd, end, bytes);
    end += bytes.length;
  };
  const addBlob = async (mediaType: string, value: unknown): Promise<Descriptor> => {
    const bytes = jsonBytes(value);
    const digest = createHash('sha256').update(bytes).digest('hex');
    append(await tarEntryBytes(blobName(digest), bytes));
    return { mediaType, digest: `sha256:${digest}`, size: bytes.length };
  };

  append(await tarEntryBytes('oci-layout', jsonBytes({ imageLayoutVersion: '1.0.0' })));
  append(await tarEntryBytes('blobs/'));
  append(await tarEntryBytes('blobs/sha256/'));

  const headerAt = end;
  append(Buffer.alloc(HEADER_BYTES));
  const { diffId, digest, size } = await streamLayer(image, append, signal);
  append(tarPadding(size));
  host.writeBytes(fd, headerAt, await tarHeaderBlock(fileEntry(blobName(digest), size)));

  const layer: Descriptor = { mediaType: LAYER_TYPES[image.compression], digest: `sha256:${digest}`, size };
  const config = await addBlob(CONFIG_TYPE, imageConfig(image.labels, diffId));
  const manifest = await addBlob(MANIFEST_TYPE, {
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config,
    layers: [layer],
  });
  const annotations = {
    'io.containerd.image.name': image.name.full,
    'org.opencontainers.image.ref.name': image.name.tag,
  };
  const platform = { architecture: 'amd64', os: 'linux' };
  const index = {
    schemaVersion: 2,
    mediaType: INDEX_TYPE,
    manifests: [{ ...manifest, platform, annotations }],
  };
  append(await tarEntryBytes('index.json', jsonBytes(index)));
  append(END_OF_TAR);
  return { manifest: manifest.digest, layer: layer.digest, bytes: end };
}

/** CRI refuses an image with neither entrypoint nor command before any runtime is asked, hence the placeholder. */
function imageConfig(labels: Readonly<Record<string, string>>, diffId: string): unknown {
  return {
    created: CREATED,
    architecture: 'amd64',
    os: 'linux',
    config: { Cmd: ['vm'], ...(Object.keys(labels).length > 0 ? { Labels: labels } : {}) },
    rootfs: { type: 'layers', diff_ids: [diffId] },
    history: [{ created: CREATED, created_by: 'vmctl image pack' }],
  };
}

async function streamLayer(
  { layer, compression }: OciImage,
  append: (bytes: Buffer) => void,
  signal: AbortSignal,
): Promise<{ diffId: string; digest: string; size: number }> {
  const plain = createHash('sha256');
  const stored = createHash('sha256');
  let size = 0;
  const hashed = async function* (): AsyncGenerator<Buffer> {
    for await (const bytes of layer) {
      plain.update(bytes);
      yield bytes;
    }
  };
  const store = async (bytes: AsyncIterable<Buffer>): Promise<void> => {
    for await (const chunk of bytes) {
      stored.update(chunk);
      size += chunk.length;
      append(chunk);
    }
  };
  const source = Readable.from(hashed(), { objectMode: false });
  try {
    const compressor = makeCompressor(compression);
    if (compressor === undefined) await pipeline(source, store, { signal });
    else await pipeline(source, compressor, store, { signal });
  } catch (error) {
    throw signal.aborted ? VmError.from(signal.reason) : error;
  }
  return { diffId: `sha256:${plain.digest('hex')}`, digest: stored.digest('hex'), size };
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

function blobName(digest: string): string {
  return `blobs/sha256/${digest}`;
}

function jsonBytes(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
