import { createHash } from 'node:crypto';
import type { Host } from '../host/host.ts';
import type { ImageDisk } from './image-disk.ts';

/** What tells one base image from another without reading all of it. */
export interface BaseIdentity {
  readonly fileBytes: number;
  /** Modification time in whole seconds, as image layers keep it. */
  readonly mtime: number;
  /** 32 hex digits over samples of the contents and the image's own checksum file, if it has one. */
  readonly fingerprint: string;
}

const BLOCK = 64 * 1024;
const SAMPLE = 4096;
const SAMPLES = 16;
/** Where most partition tables put the first file system. */
const FIRST_PARTITION = 2 ** 20;
const NAME = /^vmshim-base-v1\/(\d+)\/(-?\d+)\/([0-9a-f]{32})$/;

/**
 * Two builds of one raw image have the same size, and with a reproducible packer the same time. So contents count too:
 * both ends (partition tables), the start of the first partition, blocks spread over the file, and `/disk.sha256`,
 * which our packer puts into every image. About a quarter of a mebibyte is read.
 */
export function readBaseIdentity(host: Host, image: ImageDisk): BaseIdentity {
  const { fd, fileBytes, mtimeMs } = image;
  const hash = createHash('sha256');
  const sample = (offset: number, length: number): void => {
    hash.update(host.readBytes(fd.fd, Math.min(offset, fileBytes), length));
  };
  sample(0, BLOCK);
  sample(FIRST_PARTITION, BLOCK);
  sample(Math.max(0, fileBytes - BLOCK), BLOCK);
  for (let i = 1; i <= SAMPLES; i++) sample(Math.floor((fileBytes / (SAMPLES + 1)) * i), SAMPLE);
  hash.update(image.checksum ?? '');
  return { fileBytes, mtime: Math.floor(mtimeMs / 1000), fingerprint: hash.digest('hex').slice(0, 32) };
}

/**
 * The identity as an overlay's backing file name. QEMU never opens the base by it, since both files reach QEMU as
 * descriptors; and who tries by hand finds nothing, since it is relative to a directory that has no such entry. So
 * overlay and identity appear in one atomic step, and `qemu-img info` shows them together.
 */
export function renderBaseName({ fileBytes, mtime, fingerprint }: BaseIdentity): string {
  return `vmshim-base-v1/${fileBytes}/${mtime}/${fingerprint}`;
}

/** @returns undefined when the name is not one of ours. */
export function parseBaseName(name: string): BaseIdentity | undefined {
  const [, fileBytes, mtime, fingerprint] = NAME.exec(name) ?? [];
  if (fingerprint === undefined) return undefined;
  return { fileBytes: Number(fileBytes), mtime: Number(mtime), fingerprint };
}

export function describeBase({ fileBytes, mtime, fingerprint }: BaseIdentity): string {
  const date = new Date(mtime * 1000);
  const day = Number.isNaN(date.getTime()) ? `${mtime}` : date.toISOString().slice(0, 10);
  return `${fileBytes} bytes of ${day}, fingerprint ${fingerprint.slice(0, 12)}`;
}
