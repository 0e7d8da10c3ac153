import type { Host, OwnedFd } from '../../host/host.ts';
import { openFlags } from '../../host/open-flags.ts';
import type { ImagePart, SparseImage } from './sparse-image.ts';

const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = openFlags;
const MODE = 0o600;
const PAGE = 4096;
/** What is larger is not worth a copy in memory. */
const MAX_RUN = 1 << 20;

/**
 * Writes an image as a sparse file that is new, readable for root only, and opens it for reading. It is not synced: it goes
 * with the VM, and after a crash of the node it is made anew.
 * @throws VmError AlreadyExists where something has the name; ResourceExhausted on a full disk.
 */
export function writeImage(host: Host, path: string, { size, parts }: SparseImage): OwnedFd {
  using file = host.open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, MODE);
  let end = 0;
  for (const run of neighbours(parts)) {
    host.writeBytes(file.fd, run.offset, joined(run));
    end = run.end;
  }
  // The last byte gives the file its size unless it was written.
  if (end < size) host.writeBytes(file.fd, size - 1, new Uint8Array(1));
  // QEMU gets a descriptor that cannot write, whatever its guest makes of it.
  return host.open(path, O_RDONLY | O_NOFOLLOW);
}

interface Run {
  readonly offset: number;
  end: number;
  readonly parts: ImagePart[];
}

/** Parts that lie within a page of each other: a system call for each of a hundred small files costs more than the gaps. */
function neighbours(parts: readonly ImagePart[]): Run[] {
  const runs: Run[] = [];
  let last: Run | undefined;
  for (const part of parts.toSorted((a, b) => a.offset - b.offset)) {
    const end = part.offset + part.bytes.length;
    if (last !== undefined && part.offset - last.end < PAGE && end - last.offset <= MAX_RUN) {
      last.parts.push(part);
      last.end = end;
    } else {
      runs.push((last = { offset: part.offset, end, parts: [part] }));
    }
  }
  return runs;
}

function joined({ offset, end, parts }: Run): Uint8Array {
  const [only] = parts;
  if (only !== undefined && parts.length === 1) return only.bytes;
  const bytes = new Uint8Array(end - offset);
  for (const part of parts) bytes.set(part.bytes, part.offset - offset);
  return bytes;
}
