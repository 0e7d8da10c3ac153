import { VmError } from '../core/errors.ts';
import type { RootPlace, VmOwner } from '../core/vm-spec.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import { openFlags } from '../host/open-flags.ts';
import { type BaseIdentity, describeBase, readBaseIdentity, renderBaseName } from './base-identity.ts';
import type { DiskImage } from './disk-image.ts';
import type { ImageDisk } from './image-disk.ts';
import { quoteName } from './image-file.ts';
import { type BaseStore, keepBase, openKeptBase } from './kept-base.ts';
import { MAX_VIRTUAL_SIZE } from './qcow2-header.ts';
import {
  createOverlay,
  draftOf,
  growOverlay,
  openOverlay,
  type OverlayFacts,
  readOverlay,
} from './root-overlay.ts';
import {
  ensureStateDirectory,
  planStateDirectory,
  type StateDirectory,
  type StatePlace,
} from './state-directory.ts';

const { O_RDONLY, O_RDWR, O_DIRECT } = openFlags;
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
  /** Where the image is kept for later starts; without it the image alone can be the base. */
  readonly bases?: BaseStore;
  /** Claims the overlay's open file for this VM, or throws. */
  readonly claim?: (overlay: OwnedFd) => void;
  readonly signal?: AbortSignal;
}

/** The two descriptors of a root disk; whoever asked for it closes both. */
export interface RootDisk {
  readonly overlay: OwnedFd;
  readonly base: OwnedFd;
  /** What the overlay was made over. */
  readonly made: OverlayFacts;
  /** Bytes the guest sees. */
  readonly virtualSize: number;
  readonly change: 'created' | 'kept' | 'grown';
  /** What the user should know, a sentence each. */
  readonly notes: readonly string[];
}

/** Names only; nothing is made or looked at. */
export function planRootDisk(
  owner: VmOwner,
  place: StatePlace,
  root: RootPlace = { kind: 'own' },
): RootDiskPlan {
  const state = planStateDirectory(owner, place, root);
  return { state, overlay: `${state.path}/root.qcow2`, nvram: `${state.path}/nvram.fd` };
}

/**
 * The root disk's overlay: made over the image when it is not there, else kept with all the guest wrote and at most
 * grown. It is never replaced, truncated or shrunk. Nothing of the image goes into it but the size that its checked
 * header says and its identity. When the image is another one now, the disk goes on over its own if that was kept.
 *
 * With `direct`, `base` is another descriptor than `image.fd`; without, it may be the same one. The caller closes both
 * either way, and closing twice is harmless.
 * @throws VmError InvalidArgument for a size that does not fit the image; FailedPrecondition when the overlay was made
 * over another image that is not here, is damaged, or is in use; Canceled.
 */
export async function ensureOverlay(
  host: Host,
  plan: RootDiskPlan,
  image: ImageDisk,
  request: OverlayRequest,
): Promise<RootDisk> {
  const { direct, qemuImg = 'qemu-img', bases, claim, signal } = request;
  if (signal?.aborted === true) throw VmError.from(signal.reason);
  using cleanup = new DisposableStack();
  const offered = readBaseIdentity(host, image);
  const exists = host.inspect(plan.overlay) !== undefined;
  let base: DiskImage = image;
  const useBase = (kept: DiskImage | undefined): void => {
    if (kept !== undefined) base = { ...kept, fd: cleanup.use(kept.fd) };
  };
  if (!exists) {
    const size = overlaySize(image, image, request.rootDiskBytes);
    ensureStateDirectory(host, plan.state);
    if (bases !== undefined) useBase(await keepBase(host, bases, image, signal));
    const made = await createOverlay(host, plan.overlay, { base: offered, format: image.format, size });
    cleanup.use(made);
    claim?.(made);
    const facts = readOverlay(host, plan.overlay, made);
    return finish(host, { cleanup, overlay: made, base, made: facts, change: 'created', direct, notes: [] });
  }

  ensureStateDirectory(host, plan.state);
  const overlay = cleanup.use(openOverlay(host, plan.overlay));
  claim?.(overlay);
  // A crash between the overlay's two names leaves the first one.
  host.remove(draftOf(plan.overlay));
  let made = readOverlay(host, plan.overlay, overlay);
  const notes: string[] = [];
  if (renderBaseName(made.identity) === renderBaseName(offered) && made.format === image.format) {
    if (bases !== undefined) useBase(await keepBase(host, bases, image, signal));
  } else {
    const own = bases === undefined ? undefined : openKeptBase(host, bases.directory, made);
    if (own === undefined) throw otherImage(plan.overlay, made, image, offered);
    useBase(own);
    notes.push(
      `the pod’s image is another one now (${describeBase(offered)}); the root disk goes on over the one it was made over (${describeBase(made.identity)}), which is kept`,
    );
  }
  const wanted = overlaySize(image, base, request.rootDiskBytes);
  let change: RootDisk['change'] = 'kept';
  if (made.virtualSize < wanted) {
    await growOverlay(host, qemuImg, overlay, wanted, signal);
    made = readOverlay(host, plan.overlay, overlay);
    change = 'grown';
  } else if (request.rootDiskBytes !== undefined && wanted < made.virtualSize) {
    notes.push(
      `the root disk keeps its ${made.virtualSize} bytes: a disk is never shrunk, so the asked ${request.rootDiskBytes} bytes count for a fresh one only`,
    );
  }
  return finish(host, { cleanup, overlay, base, made, change, direct, notes });
}

function finish(
  host: Host,
  parts: Omit<RootDisk, 'virtualSize' | 'base'> & {
    readonly cleanup: DisposableStack;
    readonly base: DiskImage;
    readonly direct: boolean;
  },
): RootDisk {
  const { cleanup, overlay, base, made, change, direct, notes } = parts;
  const disk = { made, virtualSize: made.virtualSize, change, notes };
  if (!direct) {
    cleanup.move();
    return { ...disk, overlay, base: base.fd };
  }
  const reopened = reopenDirect(host, overlay, O_RDWR);
  try {
    return { ...disk, overlay: reopened, base: reopenDirect(host, base.fd, O_RDONLY) };
  } catch (error) {
    reopened[Symbol.dispose]();
    throw error;
  }
}

/** What the guest is to see at least. */
function overlaySize(image: ImageDisk, base: DiskImage, rootDiskBytes: number | undefined): number {
  if (rootDiskBytes === undefined) return base.virtualSize;
  const wanted = Math.ceil(rootDiskBytes / SECTOR) * SECTOR;
  if (wanted < base.virtualSize) {
    throw new VmError(
      'InvalidArgument',
      `the root disk size of ${rootDiskBytes} bytes is smaller than the image’s ${quoteName(image.path)} with ${base.virtualSize} bytes; ask for at least that, or leave the size out`,
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

function otherImage(path: string, made: OverlayFacts, image: ImageDisk, offered: BaseIdentity): VmError {
  return new VmError(
    'FailedPrecondition',
    `root disk "${path}" was made over another image (${describeBase(made.identity)}) than ${quoteName(image.path)} of this one (${describeBase(offered)}); give the earlier image back to keep the guest’s data, or delete the pod or container to begin with a fresh disk`,
  );
}

function reopenDirect(host: Host, file: OwnedFd, access: number): OwnedFd {
  return host.open(`/proc/self/fd/${file.fd}`, access | O_DIRECT);
}
