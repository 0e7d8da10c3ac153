import { VmError } from '../core/errors.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import { openImageFile, quoteName } from './image-file.ts';

export const KERNEL_HEAD_BYTES = 0x206;
const ELF_MAGIC = 0x7f_45_4c_46;
const GZIP_MAGIC = 0x1f8b;

/**
 * Opens a kernel of the image for direct boot: a bzImage (Linux Documentation/arch/x86/boot.rst: 0xAA55 at 0x1FE,
 * "HdrS" at 0x202) or an ELF vmlinux with a PVH entry.
 * @throws VmError InvalidArgument when it is neither; as `openImageFile` for the path.
 */
export function openImageKernel(host: Host, rootfs: string, path: string): OwnedFd {
  return opened(openImageFile(host, rootfs, path), (fd) => {
    checkKernel(host.readBytes(fd, 0, KERNEL_HEAD_BYTES), `kernel ${quoteName(path)} in the image`);
  });
}

/** Opens the image's initial RAM disk: any file that is not empty, since kernels take many formats. */
export function openImageInitrd(host: Host, rootfs: string, path: string): OwnedFd {
  return opened(openImageFile(host, rootfs, path), (fd) => {
    if (host.inspectFd(fd).size > 0) return;
    throw new VmError(
      'InvalidArgument',
      `initrd ${quoteName(path)} in the image is empty; put an initramfs there`,
    );
  });
}

/** @throws VmError InvalidArgument when the first bytes of a file are no kernel's. */
export function checkKernel(head: Buffer, what: string): void {
  const refuse = (why: string): never => {
    throw new VmError(
      'InvalidArgument',
      `${what} ${why}; give a bzImage or an uncompressed ELF vmlinux for x86-64`,
    );
  };
  if (head.length < KERNEL_HEAD_BYTES) refuse(`has only ${head.length} bytes`);
  if (head.readUInt32BE(0) === ELF_MAGIC) return;
  if (head.readUInt16LE(0x1fe) === 0xaa55 && head.toString('latin1', 0x202, 0x206) === 'HdrS') return;
  refuse(head.readUInt16BE(0) === GZIP_MAGIC ? 'is gzip-compressed' : 'is no Linux kernel');
}

function opened(file: OwnedFd, check: (fd: number) => void): OwnedFd {
  try {
    check(file.fd);
    return file;
  } catch (error) {
    file[Symbol.dispose]();
    throw error;
  }
}
