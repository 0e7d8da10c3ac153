import { VmError } from '../core/errors.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import { readDiskImage } from '../storage/disk-image.ts';
import type { ContainerdClient } from './containerd-client.ts';
import type { DownloadTuning } from './download.ts';
import { type BootOptions, bootLabels, checkBootOptions, diskFile, openBootFiles } from './image-contents.ts';
import { convertToQcow2, type SourceFormat } from './image-convert.ts';
import { layerBytes, type LayerContents, layerTar } from './image-layer.ts';
import type { ImageName } from './image-name.ts';
import { openImportSource, type SourceOptions } from './image-source.ts';
import type { ImportReport } from './import-report.ts';
import { storeImage, type StoredImage } from './image-store.ts';
import { unpackFile } from './image-unpack.ts';
import type { LayerCompression } from './oci-image.ts';

export interface ImageImportOptions extends BootOptions {
  /** Path or URL. */
  readonly source: string;
  readonly name: ImageName;
  /** 64 hex digits of the source file's SHA-256. */
  readonly sha256: string | undefined;
  readonly compress: LayerCompression;
  /** A directory with room for the disk, when it has to be downloaded, unpacked or converted. */
  readonly tempDir: string;
  /** Where a download that ends early waits for the next import of its URL. */
  readonly downloads?: SourceOptions['downloads'];
  /** Bytes that a download, and what it unpacks to, may have. */
  readonly maxSize: number;
  /** Keep kubelet's hands off. */
  readonly pinned: boolean;
  readonly tuning?: DownloadTuning;
}

export interface ImageImportResult extends StoredImage {
  readonly name: string;
  readonly from: SourceFormat;
  readonly virtualSize: number;
  readonly diskBytes: number;
}

/**
 * Makes a container image of a disk from a file or a server and puts it into containerd. What is needed on the way lies
 * in files without names, so that nothing stays behind, whatever ends us.
 * @throws VmError InvalidArgument for a disk that is refused; as each of the steps.
 */
export async function importImage(
  host: Host,
  client: ContainerdClient,
  options: ImageImportOptions,
  report: ImportReport,
): Promise<ImageImportResult> {
  checkBootOptions(options);
  using files = new DisposableStack();
  // Found out before an hour's download.
  const boot = openBootFiles(host, options, files);
  const source = await openImportSource(host, options, files, report);
  const plain = await unpackFile(host, source, options, files, report);
  const needsBootSector = options.kernel === undefined;
  const { file, from } = await convertToQcow2(host, plain, { ...options, needsBootSector }, files, report);
  if (report.signal.aborted) throw VmError.from(report.signal.reason);
  const disk = readDiskImage(host, borrowed(file.fd), file.name);
  const contents: LayerContents = { disk: diskFile(disk, `disk ${file.name}`), boot };
  const total = layerBytes(contents);
  let done = 0;
  report.step(`storing ${options.name.full}`);
  const layer = layerTar(host, contents, (count) => {
    done += count;
    report.progress(done, total);
  });
  const image = { name: options.name, layer, compression: options.compress, labels: bootLabels(options) };
  const stored = await storeImage(client, image, { pinned: options.pinned, signal: report.signal });
  return {
    ...stored,
    name: options.name.full,
    from,
    virtualSize: disk.virtualSize,
    diskBytes: disk.fileBytes,
  };
}

/** A descriptor that somebody else closes. */
function borrowed(fd: number): OwnedFd {
  return { fd, [Symbol.dispose]: () => undefined };
}
