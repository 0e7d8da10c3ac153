import { VmError } from '../core/errors.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import {
  type BaseIdentity,
  describeBase,
  parseBaseName,
  readBaseIdentity,
  renderBaseName,
} from './base-identity.ts';
import type { DiskFormat } from './image-format.ts';
import type { ImageDisk } from './image-disk.ts';
import { quoteName } from './image-file.ts';
import { openFlags } from '../host/open-flags.ts';
import { publishFile } from './publish-file.ts';
import { HEADER_BYTES, MAX_VIRTUAL_SIZE, parseQcow2Header, type Qcow2Header } from './qcow2-header.ts';
import { qcow2Overlay } from './qcow2-overlay.ts';
import {
  ensureStateDirectory,
  planStateDirectory,
  type StateDirectory,
  type StatePlace,
} from './state-directory.ts';
import type { VmOwner } from '../core/vm-spec.ts';

const { O_RDONLY, O_RDWR, O_DIRECT, O_NOFOLLOW, O_NONBLOCK } = openFlags;
const SECTOR = 512;

export interface RootDiskPlan {
  readonly state: StateDirectory;
  /** Absolute path of the qcow2 overlay that takes the guest's writes. */
  readonly overlay: string;
  /** Absolute path of the VM's own UEFI variables. */
  readonly nvram: string;
}

export interface OverlayRequest {
  /** `VmSpec.rootDiskBytes`: the size the guest is to see, when larger than the image. */
  readonly rootDiskBytes: number | undefined;
  /** Open both files with O_DIRECT, as QEMU's `cache.direct=on` wants descriptors to be. */
  readonly direct: boolean;
  /** Absolute path of qemu-img, which grows an overlay. */
  readonly qemuImg?: string;
  readonly signal?: AbortSignal;
}

/** The two descriptors of a root disk; whoever asked for it closes both. */
export interface RootDisk {
  readonly overlay: OwnedFd;
  readonly base: OwnedFd;
  /** Bytes the guest sees. */
  readonly virtualSize: number;
  readonly change: 'created' | 'kept' | 'grown';
}

/** Names only; nothing is made or looked at. */
export function planRootDisk(owner: VmOwner, place: StatePlace): RootDiskPlan {
  const state = planStateDirectory(owner, place);
  return { state, overlay: `${state.path}/root.qcow2`, nvram: `${state.path}/nvram.fd` };
}

/**
 * The root disk's overlay: made over the image when it is not there, else kept with all the guest wrote and at most
 * grown. It is never replaced, truncated or shrunk. Nothing of the image goes into it but the size that its checked
 * header says and its identity.
 *
 * With `direct`, `base` is another descriptor than `image.fd`; without, it is the same one. The caller closes both
 * either way, and closing twice is harmless.
 * @throws VmError InvalidArgument for a size that does not fit the image; FailedPrecondition when the overlay was made
 * over another image or is damaged; Canceled.
 */
export async function ensureOverlay(
  host: Host,
  plan: RootDiskPlan,
  image: ImageDisk,
  { rootDiskBytes, direct, qemuImg = 'qemu-img', signal }: OverlayRequest,
): Promise<RootDisk> {
  const wanted = overlaySize(image, rootDiskBytes);
  if (signal?.aborted === true) throw VmError.from(signal.reason);
  ensureStateDirectory(host, plan.state);
  const base = readBaseIdentity(host, image);
  const exists = host.inspect(plan.overlay) !== undefined;
  const found = exists
    ? openOverlay(host, plan.overlay)
    : await createOverlay(host, plan.overlay, { base, format: image.format, size: wanted });
  using cleanup = new DisposableStack();
  cleanup.use(found);
  let header = checkOverlay(host, plan.overlay, found, image, base);
  let change: RootDisk['change'] = exists ? 'kept' : 'created';
  if (header.virtualSize < wanted) {
    await growOverlay(host, qemuImg, plan.overlay, wanted, signal);
    header = checkOverlay(host, plan.overlay, found, image, base);
    change = 'grown';
  }
  const { virtualSize } = header;
  if (!direct) {
    cleanup.move();
    return { overlay: found, base: image.fd, virtualSize, change };
  }
  const overlay = reopenDirect(host, found, O_RDWR);
  try {
    return { overlay, base: reopenDirect(host, image.fd, O_RDONLY), virtualSize, change };
  } catch (error) {
    overlay[Symbol.dispose]();
    throw error;
  }
}

function overlaySize(image: ImageDisk, rootDiskBytes: number | undefined): number {
  if (rootDiskBytes === undefined) return image.virtualSize;
  const wanted = Math.ceil(rootDiskBytes / SECTOR) * SECTOR;
  if (wanted < image.virtualSize) {
    throw new VmError(
      'InvalidArgument',
      `the root disk size of ${rootDiskBytes} bytes is smaller than the image’s ${quoteName(image.path)} with ${image.virtualSize} bytes; ask for at least that, or leave the size out`,
    );
  }
  if (wanted > MAX_VIRTUAL_SIZE) {
    throw new VmError(
      'InvalidArgument',
      `the root disk size of ${rootDiskBytes} bytes is above 64 TiB; ask for less`,
    );
  }
  return wanted;
}

function openOverlay(host: Host, path: string): OwnedFd {
  const kind = host.inspect(path)?.kind;
  if (kind === 'file') return host.open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
  throw new VmError(
    'FailedPrecondition',
    `root disk "${path}" is a ${kind ?? 'missing file'} and no overlay; find out who put it there and remove it`,
  );
}

function createOverlay(
  host: Host,
  path: string,
  { base, format, size }: { readonly base: BaseIdentity; readonly format: DiskFormat; readonly size: number },
): Promise<OwnedFd> {
  const bytes = qcow2Overlay({
    virtualSize: size,
    backingFile: renderBaseName(base),
    backingFormat: format,
  });
  return publishFile(host, { path, draft: `${path}.new` }, (fd) => host.writeBytes(fd, 0, bytes));
}

async function growOverlay(
  host: Host,
  qemuImg: string,
  path: string,
  size: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  // "backing": null keeps qemu-img from looking for the base by the name in the header, and leaves that name alone.
  const overlay = { driver: 'qcow2', file: { driver: 'file', filename: path }, backing: null };
  const args = ['resize', '-q', `json:${JSON.stringify(overlay)}`, String(size)];
  await host.exec(qemuImg, args, signal === undefined ? {} : { signal });
}

/** The overlay has to be sound, without any file of its own choice, and made over this very image. */
function checkOverlay(
  host: Host,
  path: string,
  overlay: OwnedFd,
  image: ImageDisk,
  base: BaseIdentity,
): Qcow2Header {
  const fileBytes = host.inspectFd(overlay.fd).size;
  const head = host.readBytes(overlay.fd, 0, HEADER_BYTES);
  let header: Qcow2Header;
  try {
    header = parseQcow2Header(head, { name: `"${path}"`, fileBytes, backing: 'allowed' });
  } catch (error) {
    throw new VmError('FailedPrecondition', VmError.from(error).message, { cause: error });
  }
  const made = parseBaseName(header.backing?.file ?? '');
  if (made === undefined) {
    throw new VmError(
      'FailedPrecondition',
      `root disk "${path}" is not an overlay this shim made; find out who put it there and move it away`,
    );
  }
  if (renderBaseName(made) !== renderBaseName(base) || header.backing?.format !== image.format) {
    throw new VmError(
      'FailedPrecondition',
      `root disk "${path}" was made over another image (${describeBase(made)}) than ${quoteName(image.path)} of this one (${describeBase(base)}); give the earlier image back to keep the guest’s data, or delete the pod or container to begin with a fresh disk`,
    );
  }
  return header;
}

function reopenDirect(host: Host, file: OwnedFd, access: number): OwnedFd {
  return host.open(`/proc/self/fd/${file.fd}`, access | O_DIRECT);
}
