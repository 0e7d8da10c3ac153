import type { Host, OwnedFd } from '../../host/host.ts';
import { openFlags } from '../../host/open-flags.ts';
import type { SparseImage } from './sparse-image.ts';

const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = openFlags;
const MODE = 0o600;

/**
 * Writes an image as a sparse file that is new, readable for root only, and opens it for reading. It is not synced: it goes
 * with the VM, and after a crash of the node it is made anew.
 * @throws VmError AlreadyExists where something has the name; ResourceExhausted on a full disk.
 */
export function writeImage(host: Host, path: string, { size, parts }: SparseImage): OwnedFd {
  using file = host.open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, MODE);
  for (const { offset, bytes } of parts) host.writeBytes(file.fd, offset, bytes);
  // The last byte gives the file its size unless it was written.
  const end = parts.reduce((furthest, { offset, bytes }) => Math.max(furthest, offset + bytes.length), 0);
  if (end < size) host.writeBytes(file.fd, size - 1, new Uint8Array(1));
  // QEMU gets a descriptor that cannot write, whatever its guest makes of it.
  return host.open(path, O_RDONLY | O_NOFOLLOW);
}
