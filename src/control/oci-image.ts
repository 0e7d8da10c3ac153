import type { ImageName } from './image-name.ts';

export type LayerCompression = 'none' | 'gzip' | 'zstd';
export const COMPRESSIONS: readonly LayerCompression[] = ['none', 'gzip', 'zstd'];

export interface OciImage {
  readonly name: ImageName;
  /** The only layer, uncompressed. */
  readonly layer: AsyncIterable<Buffer>;
  readonly compression: LayerCompression;
  readonly labels: Readonly<Record<string, string>>;
}

/** Source: OCI image-spec descriptor.md. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** A blob of JSON before it is one. */
export interface OciDocument {
  readonly mediaType: string;
  readonly value: unknown;
}

export const LAYER_TYPES: Readonly<Record<LayerCompression, string>> = {
  none: 'application/vnd.oci.image.layer.v1.tar',
  gzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  zstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
};
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const CONFIG_TYPE = 'application/vnd.oci.image.config.v1+json';
const CREATED = '1970-01-01T00:00:00Z';

/**
 * CRI refuses an image with neither entrypoint nor command before any runtime is asked, hence the placeholder. It says
 * nothing of how it was made, so packing and importing one disk make one image. Source: OCI image-spec config.md.
 */
export function imageConfig(labels: Readonly<Record<string, string>>, diffId: string): OciDocument {
  return {
    mediaType: CONFIG_TYPE,
    value: {
      created: CREATED,
      architecture: 'amd64',
      os: 'linux',
      config: { Cmd: ['vm'], ...(Object.keys(labels).length > 0 ? { Labels: labels } : {}) },
      rootfs: { type: 'layers', diff_ids: [diffId] },
      history: [{ created: CREATED, created_by: 'vmctl image pack' }],
    },
  };
}

/** Source: OCI image-spec manifest.md. */
export function imageManifest(config: Descriptor, layer: Descriptor): OciDocument {
  return {
    mediaType: MANIFEST_TYPE,
    value: { schemaVersion: 2, mediaType: MANIFEST_TYPE, config, layers: [layer] },
  };
}

export function jsonBytes(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
