import { VmError } from '../core/errors.ts';
import type { CallOptions, ContainerdClient } from './containerd-client.ts';
import { IMAGES } from './containerd-methods.ts';

/** What an image's name stands for. */
export interface ImageTarget {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** Makes a name for a manifest, or gives an existing name the new manifest and labels and leaves its other labels. */
export async function putImage(
  client: ContainerdClient,
  image: {
    readonly name: string;
    readonly target: ImageTarget;
    readonly labels: Readonly<Record<string, string>>;
  },
  options: CallOptions,
): Promise<void> {
  const request = { image: { ...image, labels: { ...image.labels }, target: { ...image.target } } };
  try {
    await client.call(IMAGES.create, request, options);
  } catch (error) {
    if (!VmError.is(error, 'AlreadyExists')) throw error;
    const paths = ['target', ...Object.keys(image.labels).map((key) => `labels.${key}`)];
    await client.call(IMAGES.update, { ...request, updateMask: { paths } }, options);
  }
}

/** @returns undefined when the namespace has no image of that name. */
export async function findImage(
  client: ContainerdClient,
  name: string,
  options: CallOptions,
): Promise<ImageTarget | undefined> {
  try {
    const { image } = await client.call(IMAGES.get, { name }, options);
    const target = image?.target;
    if (target === undefined || target === null) return undefined;
    return { mediaType: target.mediaType ?? '', digest: target.digest ?? '', size: target.size ?? 0 };
  } catch (error) {
    if (VmError.is(error, 'NotFound')) return undefined;
    throw error;
  }
}

/** A name that containerd knows. */
export interface NamedImage {
  readonly name: string;
  readonly digest: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** All names of the client's namespace, in their alphabetical order. */
export async function listImages(client: ContainerdClient, options: CallOptions): Promise<NamedImage[]> {
  const { images } = await client.call(IMAGES.list, { filters: [] }, options);
  return images
    .map(({ name, target, labels }) => ({
      name: name ?? '',
      digest: target?.digest ?? '',
      labels: labels ?? {},
    }))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}
