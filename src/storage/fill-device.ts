import { VmError } from '../core/errors.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import type { ImageDisk } from './image-disk.ts';
import { MARK_AREA, renderMark, type RootMark } from './root-mark.ts';

/** Lost at most when we are killed; small against what a caller's deadline allows, large against starting qemu-img. */
const PIECE_BYTES = 128 * 2 ** 20;

export interface Filling {
  readonly qemuImg: string;
  /** What is on the volume already. */
  readonly from: RootMark;
  /** Of the mark that is on the volume; -1 where there is none. */
  readonly sequence: number;
  /** Bytes copied from one mark to the next, a multiple of 512; 128 MiB by default. */
  readonly pieceBytes?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Writes the image's disk behind the mark, a piece at a time. The mark says how much is there only after that much is
 * safe, so a call that is killed or canceled anywhere goes on where it was, and kubelet's deadline for a container's
 * start bounds one try, not the size of an image. "Filled" comes last.
 * @throws VmError Canceled; Internal with what qemu-img says.
 */
export async function fillDevice(
  host: Host,
  { fd, node }: { readonly fd: OwnedFd; readonly node: string },
  image: ImageDisk,
  { qemuImg, from, sequence, pieceBytes = PIECE_BYTES, signal, onProgress }: Filling,
): Promise<void> {
  let next = sequence + 1;
  const note = (mark: RootMark): void => {
    const { bytes, at } = renderMark(mark, next++);
    host.writeBytes(fd.fd, at, bytes);
    host.sync(fd.fd);
  };
  if (from.done === 0) note(from);
  const total = image.virtualSize;
  for (let at = from.done; at < total; at += pieceBytes) {
    onProgress?.(at, total);
    if (signal?.aborted === true) throw VmError.from(signal.reason);
    const size = Math.min(pieceBytes, total - at);
    await copyPiece(host, { qemuImg, image, target: fd, node, at, size }, signal);
    host.sync(fd.fd);
    note({ ...from, done: at + size });
  }
  note({ ...from, done: total, state: 'filled' });
  onProgress?.(total, total);
}

/** What `exec` makes of the two descriptors. */
const SOURCE = '/proc/self/fd/3';
const TARGET = '/proc/self/fd/4';

interface Piece {
  readonly qemuImg: string;
  readonly image: ImageDisk;
  readonly target: OwnedFd;
  readonly node: string;
  readonly at: number;
  readonly size: number;
}

/** qemu-img reads zeros cheaply and writes them as such; `-n` makes it write them, whatever the volume held before. */
async function copyPiece(
  host: Host,
  { qemuImg, image, target, node, at, size }: Piece,
  signal: AbortSignal | undefined,
): Promise<void> {
  const source = {
    driver: 'raw',
    offset: at,
    size,
    file: {
      driver: image.format,
      file: { driver: 'file', filename: SOURCE },
      ...(image.format === 'qcow2' && { backing: null }),
    },
  };
  const driver = host.inspectFd(target.fd).kind === 'block-device' ? 'host_device' : 'file';
  const to = [
    'driver=raw',
    `offset=${MARK_AREA + at}`,
    `size=${size}`,
    `file.driver=${driver}`,
    `file.filename=${TARGET}`,
  ].join(',');
  const args = ['convert', '-q', '-n', '-t', 'writeback', '--target-image-opts'];
  try {
    await host.exec(
      qemuImg,
      [...args, `json:${JSON.stringify(source)}`, to],
      // The volume is ours as long as anybody writes to it: a qemu-img that outlives us keeps the next VM out.
      { fds: [image.fd.fd, target.fd], ...(signal !== undefined && { signal }) },
    );
  } catch (error) {
    throw VmError.from(error, `block volume ${node} could not be filled`);
  }
}
