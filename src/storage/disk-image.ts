import type { Host, OwnedFd } from '../host/host.ts';
import { type ImageFormat, type ImageProbe, parseImageFormat } from './image-format.ts';
import { HEADER_BYTES } from './qcow2-header.ts';

/** An opened disk image whose header was found sound. */
export interface DiskImage extends ImageFormat {
  readonly fileBytes: number;
  readonly mtimeMs: number;
  /** Read-only; whoever asked for the image closes it. */
  readonly fd: OwnedFd;
}

const TAIL_BYTES = 512;

/**
 * Reads what a disk image says about itself.
 * @param name how messages call the file.
 * @throws VmError InvalidArgument for an image that is no sound, self-contained qcow2 or raw disk.
 */
export function readDiskImage(host: Host, fd: OwnedFd, name: string): DiskImage {
  const { size: fileBytes, mtimeMs } = host.inspectFd(fd.fd);
  return { ...parseImageFormat(readImageProbe(host, fd.fd, name)), fileBytes, mtimeMs, fd };
}

/** The parts of an opened file that tell what disk image it is. */
export function readImageProbe(host: Host, fd: number, name: string): ImageProbe {
  const { size: fileBytes } = host.inspectFd(fd);
  const head = host.readBytes(fd, 0, HEADER_BYTES);
  const tail = host.readBytes(fd, Math.max(0, fileBytes - TAIL_BYTES), TAIL_BYTES);
  return { name, head, tail, fileBytes };
}
