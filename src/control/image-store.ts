import type { CallOptions, ContainerdClient } from './containerd-client.ts';
import { writeBlob } from './containerd-content.ts';
import { putImage } from './containerd-images.ts';
import { withLease } from './containerd-lease.ts';
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

export interface StoredImage {
  /** `sha256:…` of the manifest: what the image is pinned by. */
  readonly manifest: string;
  readonly layer: string;
}

/**
 * kubelet removes images that no pod uses when the disk fills, and pulls them again; an imported one has no registry to
 * come back from. CRI reports the image as pinned by this label since containerd's pull requests 8867 and 9382.
 */
export const PINNED = { 'io.cri-containerd.pinned': 'pinned' };

/**
 * Puts an image into containerd as its layer goes by, with no copy of it anywhere else. containerd unpacks it when the
 * first container is made of it; the CRI plugin learns of it by containerd's own event.
 * @returns when it can be used. Nothing of it is there when this throws.
 */
export async function storeImage(
  client: ContainerdClient,
  image: OciImage,
  { pinned, signal }: { readonly pinned: boolean; readonly signal: AbortSignal },
): Promise<StoredImage> {
  return await withLease(client, signal, async (lease) => {
    const options = { signal, lease };
    const layer = await storeLayer(client, image, options);
    const config = await storeDocument(client, imageConfig(image.labels, layer.diffId), {}, options);
    // What keeps a blob is the label of one that names it. Source: containerd docs/garbage-collection.md.
    const references = {
      'containerd.io/gc.ref.content.config': config.digest,
      'containerd.io/gc.ref.content.l.0': layer.descriptor.digest,
    };
    const target = await storeDocument(client, imageManifest(config, layer.descriptor), references, options);
    await putImage(client, { name: image.name.full, target, labels: pinned ? PINNED : {} }, options);
    return { manifest: target.digest, layer: layer.descriptor.digest };
  });
}

async function storeLayer(
  client: ContainerdClient,
  { layer, compression }: OciImage,
  options: CallOptions,
): Promise<{ descriptor: Descriptor; diffId: string }> {
  const source = new OciLayer(layer, compression);
  // Saves containerd a look through the layer; known when all of it has gone by.
  const labels = (): Record<string, string> =>
    source.diffId === undefined ? {} : { 'containerd.io/uncompressed': source.diffId };
  const blob = await writeBlob(client, source.stored(options.signal), labels, options);
  return {
    descriptor: { mediaType: LAYER_TYPES[compression], ...blob },
    diffId: source.diffId ?? blob.digest,
  };
}

async function storeDocument(
  client: ContainerdClient,
  { mediaType, value }: OciDocument,
  labels: Readonly<Record<string, string>>,
  options: CallOptions,
): Promise<Descriptor> {
  return { mediaType, ...(await writeBlob(client, [jsonBytes(value)], () => labels, options)) };
}
