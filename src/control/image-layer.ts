import { createHash } from 'node:crypto';
import { type Pack, pack } from 'tar-stream';
import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { CHECKSUM_FILE } from '../storage/image-disk.ts';
import { directoryEntry, fileEntry, tarBlocks, tarHeaders, type TarEntry } from './tar-bytes.ts';

/** A file of the host that goes into the image. */
export interface LayerFile {
  /** Absolute path inside the image. */
  readonly path: string;
  readonly fd: number;
  readonly size: number;
  /** How messages call the source. */
  readonly source: string;
}

export interface LayerContents {
  readonly disk: LayerFile;
  readonly boot: readonly LayerFile[];
}

const CHUNK = 2 ** 20;

export function layerBytes({ disk, boot }: LayerContents): number {
  return [disk, ...boot].reduce((sum, { size }) => sum + size, 0);
}

/**
 * The layer's tar, read from the files as it is consumed. Every entry is root's and readable by all, since KubeVirt
 * reads disks as uid 107 and QEMU here runs as yet another; times are the epoch. The disk's checksum comes after it:
 * with all times equal, it is what tells two builds of one disk apart.
 * @param onBytes is told of each piece of a source file.
 */
export async function* layerTar(
  host: Host,
  contents: LayerContents,
  onBytes: (count: number) => void,
): AsyncGenerator<Buffer> {
  const archive = pack();
  // The producer's failure ends the archive, and so reaches whoever reads it.
  const produced = produce(host, archive, contents, onBytes).catch((error: unknown) => {
    archive.destroy(VmError.from(error));
  });
  try {
    for await (const block of tarBlocks(archive)) yield block;
  } finally {
    archive.destroy();
    await produced;
  }
}

async function produce(
  host: Host,
  archive: Pack,
  { disk, boot }: LayerContents,
  onBytes: (count: number) => void,
): Promise<void> {
  archive.entry(tarHeaders(directoryEntry('disk/')));
  const digest = await addFile(host, archive, disk, onBytes);
  const checksum = Buffer.from(`${digest}  ${tarName(disk.path)}\n`);
  archive.entry(tarHeaders(fileEntry(tarName(CHECKSUM_FILE), checksum.length)), checksum);
  if (boot.length > 0) archive.entry(tarHeaders(directoryEntry('boot/')));
  for (const file of boot) await addFile(host, archive, file, onBytes);
  archive.finalize();
}

async function addFile(
  host: Host,
  archive: Pack,
  file: LayerFile,
  onBytes: (count: number) => void,
): Promise<string> {
  const entry: TarEntry = fileEntry(tarName(file.path), file.size);
  const sink = archive.entry(tarHeaders(entry));
  // A broken archive shows at its reader; here it only has to end the wait.
  sink.on('error', () => undefined);
  const closed = new Promise<void>((resolve) => void sink.once('close', resolve));
  const hash = createHash('sha256');
  for (let offset = 0; offset < file.size;) {
    const bytes = host.readBytes(file.fd, offset, Math.min(CHUNK, file.size - offset));
    if (bytes.length === 0) {
      throw new VmError(
        'FailedPrecondition',
        `${file.source} became shorter while it was packed; stop what writes to it and pack again`,
      );
    }
    hash.update(bytes);
    offset += bytes.length;
    onBytes(bytes.length);
    if (sink.write(bytes)) continue;
    await Promise.race([new Promise<void>((resolve) => void sink.once('drain', resolve)), closed]);
  }
  sink.end(undefined);
  await closed;
  return hash.digest('hex');
}

function tarName(path: string): string {
  return path.replace(/^\//, '');
}
