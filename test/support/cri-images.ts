import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import { pack } from 'tar-stream';

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const CONFIG = 'application/vnd.oci.image.config.v1+json';
const LAYER = 'application/vnd.oci.image.layer.v1.tar';

/** What a container image of the tests has in it. */
export interface TestImage {
  /** With registry and tag. */
  readonly name: string;
  /** Contents by path, without a leading slash. All are executable. */
  readonly files: Readonly<Record<string, Buffer>>;
  readonly entrypoint: readonly string[];
}

/** Debian's static busybox as an ordinary container: the pause image, or a neighbour of the VMs. */
export function busyboxImage(name: string): TestImage {
  return {
    name,
    files: { 'bin/busybox': readFileSync('/bin/busybox') },
    entrypoint: ['/bin/busybox', 'sleep', 'infinity'],
  };
}

/** iperf3 of this machine as an ordinary container, with the libraries it needs. */
export function iperfImage(name: string): TestImage {
  const paths = execFileSync('ldd', ['/usr/bin/iperf3'], { encoding: 'utf8' }).match(/\/\S+/g) ?? [];
  const files = ['/usr/bin/iperf3', ...paths].map((path) => [path.slice(1), readFileSync(path)] as const);
  const { entrypoint, files: busybox } = busyboxImage(name);
  // It keeps what it sends in a file below /tmp.
  return {
    name,
    entrypoint,
    files: { ...busybox, ...Object.fromEntries(files), 'tmp/.keep': Buffer.alloc(0) },
  };
}

/** Writes an OCI image layout as a tar for `ctr images import`. Source: OCI image-spec. */
export async function writeImage(archive: string, image: TestImage): Promise<void> {
  const layer = await tar(image.files);
  const config = json({
    architecture: 'amd64',
    os: 'linux',
    config: { Entrypoint: image.entrypoint },
    rootfs: { type: 'layers', diff_ids: [`sha256:${sha256(layer)}`] },
  });
  const manifest = json({
    schemaVersion: 2,
    mediaType: MANIFEST,
    config: descriptor(CONFIG, config),
    layers: [descriptor(LAYER, layer)],
  });
  const index = json({
    schemaVersion: 2,
    manifests: [
      { ...descriptor(MANIFEST, manifest), annotations: { 'io.containerd.image.name': image.name } },
    ],
  });
  const blobs = [layer, config, manifest].map((blob) => [`blobs/sha256/${sha256(blob)}`, blob] as const);
  const files = {
    'oci-layout': json({ imageLayoutVersion: '1.0.0' }),
    ...Object.fromEntries(blobs),
    'index.json': index,
  };
  writeFileSync(archive, await tar(files));
}

async function tar(files: Readonly<Record<string, Buffer>>): Promise<Buffer> {
  const archive = pack();
  for (const [name, contents] of Object.entries(files)) archive.entry({ name, mode: 0o755 }, contents);
  archive.finalize();
  return await buffer(archive as AsyncIterable<Buffer>);
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

function descriptor(mediaType: string, blob: Buffer): { mediaType: string; digest: string; size: number } {
  return { mediaType, digest: `sha256:${sha256(blob)}`, size: blob.length };
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
