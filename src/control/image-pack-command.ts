import { resolve } from 'node:path';
import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { type DiskImage, readDiskImage } from '../storage/disk-image.ts';
import { expectBootable } from '../storage/image-format.ts';
import { openFlags } from '../host/open-flags.ts';
import { bootLabels, checkBootOptions, diskFile, openBootFiles, openSource } from './image-contents.ts';
import { layerBytes, type LayerContents, layerTar } from './image-layer.ts';
import { parseImageName } from './image-name.ts';
import { type OciArchiveResult, writeOciArchive } from './oci-archive.ts';
import type { LayerCompression } from './oci-image.ts';

/** `vmctl image pack DISK --name REF --output FILE [--kernel K [--initrd I] [--cmdline C]] [--compress …]` */
export interface ImagePackOptions {
  /** Path of a qcow2 or raw file. */
  readonly disk: string;
  readonly name: string;
  readonly output: string;
  readonly kernel: string | undefined;
  readonly initrd: string | undefined;
  readonly cmdline: string | undefined;
  readonly compress: LayerCompression;
}

export interface PackProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface ImagePackResult extends OciArchiveResult {
  /** In full, as `ctr images ls` will show it. */
  readonly name: string;
  readonly output: string;
  readonly format: DiskImage['format'];
  readonly virtualSize: number;
}

const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = openFlags;

/**
 * Packs a disk, and a kernel to boot it with if given, into an OCI image for `ctr images import`. The same input gives
 * the same bytes. The output appears when it is complete; an earlier file of that name is replaced then.
 * @throws VmError InvalidArgument for options or files that make no bootable image; Canceled.
 */
export async function packImage(
  host: Host,
  options: ImagePackOptions,
  {
    signal,
    onProgress,
  }: { readonly signal: AbortSignal; readonly onProgress: (progress: PackProgress) => void },
): Promise<ImagePackResult> {
  const name = parseImageName(options.name);
  checkBootOptions(options);
  checkOutput(options);
  using files = new DisposableStack();
  const disk = readDiskImage(host, files.use(openSource(host, options.disk, 'disk')), `"${options.disk}"`);
  if (options.kernel === undefined) expectBootable(disk, `"${options.disk}"`);
  const contents: LayerContents = {
    disk: diskFile(disk, `disk "${options.disk}"`),
    boot: openBootFiles(host, options, files),
  };
  const totalBytes = layerBytes(contents);
  let doneBytes = 0;
  const layer = layerTar(host, contents, (count) => {
    doneBytes += count;
    onProgress({ doneBytes, totalBytes });
  });
  const image = { name, layer, compression: options.compress, labels: bootLabels(options) };
  const result = await replaceOutput(host, options.output, (fd) => writeOciArchive(host, fd, image, signal));
  return {
    ...result,
    name: name.full,
    output: options.output,
    format: disk.format,
    virtualSize: disk.virtualSize,
  };
}

function checkOutput({ disk, output, kernel, initrd }: ImagePackOptions): void {
  const sources = [disk, kernel, initrd].filter((path) => path !== undefined);
  if (sources.some((path) => resolve(path) === resolve(output))) {
    throw new VmError(
      'InvalidArgument',
      `--output "${output}" is one of the files to pack; name another file`,
    );
  }
}

async function replaceOutput<T>(host: Host, output: string, write: (fd: number) => Promise<T>): Promise<T> {
  const draft = `${output}.partial-${process.pid}`;
  using file = host.open(draft, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644);
  try {
    const result = await write(file.fd);
    host.sync(file.fd);
    host.rename(draft, output);
    return result;
  } catch (error) {
    host.remove(draft);
    throw error;
  }
}
