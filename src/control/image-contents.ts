import { VmError } from '../core/errors.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import { openFlags } from '../host/open-flags.ts';
import type { DiskImage } from '../storage/disk-image.ts';
import { checkKernel, KERNEL_HEAD_BYTES } from '../storage/kernel-image.ts';
import type { LayerFile } from './image-layer.ts';

/** How an image is booted without its disk's boot loader: paths of files of the host. */
export interface BootOptions {
  readonly kernel: string | undefined;
  readonly initrd: string | undefined;
  readonly cmdline: string | undefined;
}

const { O_RDONLY, O_NONBLOCK } = openFlags;
const KERNEL_PATH = '/boot/vmlinuz';
const INITRD_PATH = '/boot/initrd.img';
/** Linux takes 2048 bytes on x86, boot loaders up to a page. Source: COMMAND_LINE_SIZE. */
const CMDLINE_MAX = 2048;

/** @throws VmError InvalidArgument for options that belong to a kernel that is not given, or make no command line. */
export function checkBootOptions({ kernel, initrd, cmdline }: BootOptions): void {
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
}

/** The disk as a file of the layer. */
export function diskFile(disk: DiskImage, source: string): LayerFile {
  const path = disk.format === 'qcow2' ? '/disk/disk.qcow2' : '/disk/disk.img';
  return { path, fd: disk.fd.fd, size: disk.fileBytes, source };
}

/** Opens the kernel and the initial RAM disk of a layer. @throws VmError InvalidArgument for what is none. */
export function openBootFiles(
  host: Host,
  { kernel, initrd }: BootOptions,
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
export function openSource(host: Host, path: string, what: string): OwnedFd {
  const file = host.open(path, O_RDONLY | O_NONBLOCK);
  const { kind, size } = host.inspectFd(file.fd);
  if (kind === 'file' && size > 0) return file;
  file[Symbol.dispose]();
  throw new VmError(
    'InvalidArgument',
    `${what} "${path}" is ${kind === 'file' ? 'empty' : `a ${kind}`}; give a regular file with contents`,
  );
}

/** What tells the shim how to boot the image, without annotations. */
export function bootLabels({ kernel, initrd, cmdline }: BootOptions): Record<string, string> {
  return {
    ...(kernel === undefined ? {} : { 'io.vmshim.kernel': KERNEL_PATH }),
    ...(initrd === undefined ? {} : { 'io.vmshim.initrd': INITRD_PATH }),
    ...(cmdline === undefined ? {} : { 'io.vmshim.cmdline': cmdline }),
  };
}
