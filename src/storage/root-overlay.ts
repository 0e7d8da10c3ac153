import { VmError } from '../core/errors.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import { openFlags } from '../host/open-flags.ts';
import { type BaseIdentity, parseBaseName, renderBaseName } from './base-identity.ts';
import type { DiskFormat } from './image-format.ts';
import type { KeptBase } from './kept-base.ts';
import { publishFile } from './publish-file.ts';
import { HEADER_BYTES, parseQcow2Header, type Qcow2Header } from './qcow2-header.ts';
import { qcow2Overlay } from './qcow2-overlay.ts';

const { O_RDONLY, O_RDWR, O_NOFOLLOW, O_NONBLOCK } = openFlags;

/** What an overlay of ours says about itself. */
export interface OverlayFacts extends KeptBase {
  /** Bytes the guest sees. */
  readonly virtualSize: number;
}

/**
 * @throws VmError FailedPrecondition for anything but a regular file. What it was looked at and what it was opened as
 * are the same thing: on a volume others can change it in between.
 */
export function openOverlay(host: Host, path: string): OwnedFd {
  const kind = host.inspect(path)?.kind;
  if (kind !== 'file') throw notAnOverlay(path, kind ?? 'missing file');
  const file = host.open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
  const opened = host.inspectFd(file.fd).kind;
  if (opened === 'file') return file;
  file[Symbol.dispose]();
  throw notAnOverlay(path, opened);
}

function notAnOverlay(path: string, kind: string): VmError {
  return new VmError(
    'FailedPrecondition',
    `root disk "${path}" is a ${kind} and no overlay; find out who put it there and remove it`,
  );
}

/** Where an overlay is made before it gets its name. */
export function draftOf(path: string): string {
  return `${path}.new`;
}

/** An empty overlay under a name that nothing has yet. @throws VmError AlreadyExists. */
export function createOverlay(
  host: Host,
  path: string,
  { base, format, size }: { readonly base: BaseIdentity; readonly format: DiskFormat; readonly size: number },
): Promise<OwnedFd> {
  const bytes = qcow2Overlay({
    virtualSize: size,
    backingFile: renderBaseName(base),
    backingFormat: format,
  });
  return publishFile(host, { path, draft: draftOf(path) }, (fd) => host.writeBytes(fd, 0, bytes));
}

/**
 * Makes the guest's disk larger, through the descriptor: nobody can put another file there meanwhile, and a qemu-img that
 * outlives us keeps the claim on the file.
 */
export async function growOverlay(
  host: Host,
  qemuImg: string,
  overlay: OwnedFd,
  size: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  // "backing": null keeps qemu-img from looking for the base by the name in the header, and leaves that name alone.
  const filename = '/proc/self/fd/3';
  const disk = { driver: 'qcow2', file: { driver: 'file', filename }, backing: null };
  const args = ['resize', '-q', `json:${JSON.stringify(disk)}`, String(size)];
  await host.exec(qemuImg, args, { fds: [overlay.fd], ...(signal !== undefined && { signal }) });
}

/**
 * Reads an overlay's header, which has to be sound, without any file of its own choice, and made by us.
 * @throws VmError FailedPrecondition.
 */
export function readOverlay(host: Host, path: string, overlay: OwnedFd): OverlayFacts {
  const fileBytes = host.inspectFd(overlay.fd).size;
  const head = host.readBytes(overlay.fd, 0, HEADER_BYTES);
  let header: Qcow2Header;
  try {
    header = parseQcow2Header(head, { name: `"${path}"`, fileBytes, backing: 'allowed' });
  } catch (error) {
    throw new VmError('FailedPrecondition', VmError.from(error).message, { cause: error });
  }
  const { file = '', format } = header.backing ?? {};
  const identity = parseBaseName(file);
  if (identity === undefined || (format !== 'qcow2' && format !== 'raw')) {
    throw new VmError(
      'FailedPrecondition',
      `root disk "${path}" is not an overlay this shim made; find out who put it there and move it away`,
    );
  }
  return { identity, format, virtualSize: header.virtualSize };
}

/** What an overlay was made over, without opening it for writing; for garbage collection. @throws as `readOverlay`. */
export function readOverlayFile(host: Host, path: string): OverlayFacts {
  using file = host.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  return readOverlay(host, path, file);
}
