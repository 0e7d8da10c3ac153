import { resolve } from 'node:path';
import { VmError } from '../core/errors.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import { type DiskImage, readDiskImage } from '../storage/disk-image.ts';
import { expectBootable } from '../storage/image-format.ts';
import { checkKernel, KERNEL_HEAD_BYTES } from '../storage/kernel-image.ts';
import { openFlags } from '../host/open-flags.ts';
import { layerBytes, type LayerContents, type LayerFile, layerTar } from './image-layer.ts';
import { parseImageName } from './image-name.ts';
import { type LayerCompression, type OciArchiveResult, writeOciArchive } from './oci-archive.ts';

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

const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK } = openFlags;
const KERNEL_PATH = '/boot/vmlinuz';
const INITRD_PATH = '/boot/initrd.img';
/** Linux takes 2048 bytes on x86, boot loaders up to a page. Source: COMMAND_LINE_SIZE. */
const CMDLINE_MAX = 2048;

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
  checkOptions(options);
  using files = new DisposableStack();
  const disk = readDiskImage(host, files.use(openSource(host, options.disk, 'disk')), `"${options.disk}"`);
  if (options.kernel === undefined) expectBootable(disk, `"${options.disk}"`);
  const contents: LayerContents = {
    disk: {
      path: disk.format === 'qcow2' ? '/disk/disk.qcow2' : '/disk/disk.img',
      fd: disk.fd.fd,
      size: disk.fileBytes,
      source: `disk "${options.disk}"`,
    },
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

function checkOptions({ disk, output, kernel, initrd, cmdline }: ImagePackOptions): void {
  if (kernel === undefined && (initrd ?? cmdline) !== undefined) {
    throw new VmError(
      'InvalidArgument',
      `--${initrd === undefined ? 'cmdline' : 'initrd'} is given without --kernel; add the kernel it belongs to, or leave it out`,
    );
  }
  if (cmdline !== undefined && (Buffer.byteLength(cmdline) >= CMDLINE_MAX || /\p{Cc}/u.test(cmdline))) {
    throw new VmError(
      'InvalidArgument',
      `--cmdline ${JSON.stringify(cmdline.slice(0, 80))} has control characters or ${CMDLINE_MAX} bytes and more; shorten it to one line`,
    );
  }
  const sources = [disk, kernel, initrd].filter((path) => path !== undefined);
  if (sources.some((path) => resolve(path) === resolve(output))) {
    throw new VmError(
      'InvalidArgument',
      `--output "${output}" is one of the files to pack; name another file`,
    );
  }
}

function openBootFiles(
  host: Host,
  { kernel, initrd }: ImagePackOptions,
  files: DisposableStack,
): LayerFile[] {
  const boot: LayerFile[] = [];
  const add = (source: string, what: string, path: string): number => {
    const { fd } = files.use(openSource(host, source, what));
    boot.push({ path, fd, size: host.inspectFd(fd).size, source: `${what} "${source}"` });
    return fd;
  };
  if (kernel !== undefined) {
    const fd = add(kernel, 'kernel', KERNEL_PATH);
    checkKernel(host.readBytes(fd, 0, KERNEL_HEAD_BYTES), `kernel "${kernel}"`);
  }
  if (initrd !== undefined) add(initrd, 'initrd', INITRD_PATH);
  return boot;
}

/** The operator's own paths may be symbolic links; what they lead to has to be a file with something in it. */
function openSource(host: Host, path: string, what: string): OwnedFd {
  const file = host.open(path, O_RDONLY | O_NONBLOCK);
  const { kind, size } = host.inspectFd(file.fd);
  if (kind === 'file' && size > 0) return file;
  file[Symbol.dispose]();
  throw new VmError(
    'InvalidArgument',
    `${what} "${path}" is ${kind === 'file' ? 'empty' : `a ${kind}`}; give a regular file with contents`,
  );
}

function bootLabels({ kernel, initrd, cmdline }: ImagePackOptions): Record<string, string> {
  return {
    ...(kernel === undefined ? {} : { 'io.vmshim.kernel': KERNEL_PATH }),
    ...(initrd === undefined ? {} : { 'io.vmshim.initrd': INITRD_PATH }),
    ...(cmdline === undefined ? {} : { 'io.vmshim.cmdline': cmdline }),
  };
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
