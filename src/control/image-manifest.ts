import { VmError } from '../core/errors.ts';
import type { CallOptions, ContainerdClient } from './containerd-client.ts';
import { readSmallBlob } from './containerd-content.ts';
import { findImage } from './containerd-images.ts';
import type { Descriptor } from './oci-image.ts';

/** What an image of containerd's says of itself. */
export interface ImageManifest {
  readonly digest: string;
  readonly layers: readonly Descriptor[];
  readonly labels: Readonly<Record<string, string>>;
}

const LIMIT = 4 * 2 ** 20;
/** An index may name another one; nobody does so twice. */
const DEPTH = 3;

/**
 * Reads an image's manifest for this machine and its configuration.
 * @throws VmError NotFound when there is no such image; InvalidArgument for documents that are not what they should be.
 */
export async function readImageManifest(
  client: ContainerdClient,
  name: string,
  options: CallOptions,
): Promise<ImageManifest> {
  const target = await findImage(client, name, options);
  if (target === undefined) {
    throw new VmError(
      'NotFound',
      `containerd’s namespace "${client.namespace}" has no image ${name}; "ctr -n ${client.namespace} images ls" lists what it has`,
    );
  }
  let { digest } = target;
  for (let depth = 0; depth < DEPTH; depth++) {
    const document = await readJson(client, digest, options);
    const manifests = document['manifests'];
    if (!Array.isArray(manifests)) return await readManifest(client, digest, document, options);
    const ours = manifests.map(asObject).find(isForUs);
    if (ours === undefined)
      throw new VmError('InvalidArgument', `image ${name} has nothing for linux/amd64; pull one that has`);
    digest = asDescriptor(ours).digest;
  }
  throw new VmError('InvalidArgument', `image ${name} is an index of indexes; pull one that is a manifest`);
}

async function readManifest(
  client: ContainerdClient,
  digest: string,
  manifest: Record<string, unknown>,
  options: CallOptions,
): Promise<ImageManifest> {
  const layers = manifest['layers'];
  if (!Array.isArray(layers)) throw new VmError('InvalidArgument', `blob ${digest} is no image manifest`);
  const config = await readJson(client, asDescriptor(asObject(manifest['config'])).digest, options);
  const labels = Object.entries(asObject(asObject(config['config'])['Labels'])).filter(
    (entry): entry is [string, string] => typeof entry[1] === 'string',
  );
  return {
    digest,
    layers: layers.map((layer) => asDescriptor(asObject(layer))),
    labels: Object.fromEntries(labels),
  };
}

async function readJson(
  client: ContainerdClient,
  digest: string,
  options: CallOptions,
): Promise<Record<string, unknown>> {
  const bytes = await readSmallBlob(client, digest, LIMIT, options);
  try {
    return asObject(JSON.parse(bytes.toString()));
  } catch (error) {
    throw new VmError('InvalidArgument', `blob ${digest} is no JSON`, { cause: error });
  }
}

function isForUs({ platform }: Record<string, unknown>): boolean {
  const { os, architecture } = asObject(platform);
  return platform === undefined || (os === 'linux' && architecture === 'amd64');
}

function asDescriptor({ mediaType, digest, size }: Record<string, unknown>): Descriptor {
  if (typeof mediaType === 'string' && typeof digest === 'string' && typeof size === 'number')
    return { mediaType, digest, size };
  throw new VmError('InvalidArgument', 'the image has a descriptor without media type, digest and size');
}

/** Absent parts count as empty: what is needed of them is checked one by one. */
function asObject(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {};
}
