import { createHash } from 'node:crypto';
import type { Host } from '../host/host.ts';
import {
  type Descriptor,
  imageConfig,
  imageManifest,
  jsonBytes,
  LAYER_TYPES,
  type OciDocument,
  type OciImage,
} from './oci-image.ts';
import { OciLayer } from './oci-layer.ts';
import { END_OF_TAR, fileEntry, tarEntryBytes, tarHeaderBlock, tarPadding } from './tar-bytes.ts';

export interface OciArchiveResult {
  /** `sha256:…` of the manifest: what the image is pinned by. */
  readonly manifest: string;
  readonly layer: string;
  /** Size of the archive. */
  readonly bytes: number;
}

const INDEX_TYPE = 'application/vnd.oci.image.index.v1+json';
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
  const addBlob = async ({ mediaType, value }: OciDocument): Promise<Descriptor> => {
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
  const { diffId, digest, size } = await appendLayer(image, append, signal);
  append(tarPadding(size));
  host.writeBytes(fd, headerAt, await tarHeaderBlock(fileEntry(blobName(digest), size)));

  const layer: Descriptor = { mediaType: LAYER_TYPES[image.compression], digest: `sha256:${digest}`, size };
  const config = await addBlob(imageConfig(image.labels, diffId));
  const manifest = await addBlob(imageManifest(config, layer));
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

async function appendLayer(
  { layer, compression }: OciImage,
  append: (bytes: Buffer) => void,
  signal: AbortSignal,
): Promise<{ diffId: string; digest: string; size: number }> {
  const stored = createHash('sha256');
  let size = 0;
  const source = new OciLayer(layer, compression);
  for await (const bytes of source.stored(signal)) {
    stored.update(bytes);
    size += bytes.length;
    append(bytes);
  }
  const digest = stored.digest('hex');
  return { diffId: source.diffId ?? `sha256:${digest}`, digest, size };
}

function blobName(digest: string): string {
  return `blobs/sha256/${digest}`;
}
