import type { Host } from '../host/host.ts';
import { withErrno } from '../host/linux-errno.ts';
import { attachTap, detachTap } from './attach-tap.ts';
import { deliveryFilter } from './delivery-filter.ts';
import { applyGuard, type GuardEntry, removeGuard } from './guard.ts';
import { guardMirroredTap, guardTap } from './guard-point.ts';
import type { GuestInterface, TapHandover } from './guest-network.ts';
import { lendGuestMac, returnLinkMac } from './link-mac.ts';
import { applyShape, makeShaper, removeShaper, type Shape, shaperName } from './shape.ts';
import { settleAll } from './settle-all.ts';
import { openTap, type Tap, type TapDeps, type TapRequest } from './tap.ts';
import { applyMirror, removeMirror } from './tc-mirror.ts';

export interface NicOptions {
  readonly queues: number;
  /** The user QEMU runs as. */
  readonly uid: number;
  /** Whether the guest is held to its own addresses, and its addresses are told by us alone. */
  readonly guard: boolean;
  /** What is called when the node's rules were not there, though other guests may rely on them. */
  readonly onNewRules?: () => Promise<void>;
}

/** A NIC of mode `tap`, as it was handed over. */
export type NodeNic = Pick<TapHandover, 'tap' | 'attachment' | 'guest' | 'bandwidth'>;

/** A NIC of mode `netns`: the pod's link it stands for, and the TAP beside it. */
export interface PodNic {
  readonly netns: string;
  readonly tap: string;
  /** As `readPodInterfaces` gave it; its `ifName` is the link. */
  readonly guest: GuestInterface;
  /** The link's own MAC address, where the guest's is another: it was there before the link. */
  readonly linkMac?: string | undefined;
}

/**
 * Mode `tap`: opens the TAP of a hand-over, guards it and makes it a port of its network. All or nothing: what was done
 * is undone when this throws. Two commands run side by side, `ip` and `nft`, for a limited bandwidth `tc` as well; test/integration/net-nic.test.ts says how long.
 */
export async function openTapNic(
  deps: TapDeps,
  nic: NodeNic,
  options: NicOptions,
  signal?: AbortSignal,
): Promise<Tap> {
  const { host } = deps;
  const { tap: name, attachment, guest } = nic;
  await using undo = new AsyncDisposableStack();
  const tap = openGuestTap(deps, { name, netns: undefined }, options);
  undo.use(tap);
  undo.defer(() => closeTapNic(host, nic).catch(ignore));
  const shape = shapeOf(nic, options);
  if (shape !== undefined) await makeShaper(host, shape, signal);
  await settleAll([
    attachTap(host, name, attachment, guest, { guarded: options.guard, signal }),
    ...(options.guard ? [guardOnNode(host, guardEntry(nic), options, signal)] : []),
    ...(shape === undefined ? [] : [applyShape(host, shape, signal)]),
  ]);
  undo.move();
  return tap;
}

/**
 * A frame that comes back from the shaper has passed the TAP's own hooks already. So where the guard is one of those, it must
 * come before, and lead there itself; a bridge's guard comes after it anyway.
 */
function shapeOf(
  { tap, attachment, guest, bandwidth }: NodeNic,
  { guard }: Pick<NicOptions, 'guard'>,
): Shape | undefined {
  if (bandwidth === undefined) return undefined;
  const guarded = guard && attachment.kind !== 'bridge' && bandwidth.sent !== undefined;
  return { tap, mtu: guest.mtu, bandwidth, sender: guarded ? 'guard' : 'tc' };
}

/** What the guard has of a NIC of mode `tap`. */
export function guardEntry(nic: NodeNic): GuardEntry {
  const { tap, attachment, guest } = nic;
  const shaper = shapeOf(nic, { guard: true })?.sender === 'guard' ? shaperName(tap) : undefined;
  return { point: guardTap(tap, attachment, shaper), guest };
}

async function guardOnNode(
  host: Host,
  { point, guest }: GuardEntry,
  { onNewRules }: NicOptions,
  signal: AbortSignal | undefined,
): Promise<void> {
  const rules = await applyGuard(host, point, guest, signal);
  if (rules === 'made') await onNewRules?.();
}

/** A TAP that, guarded, delivers what it may from the first frame on. */
function openGuestTap(
  deps: TapDeps,
  place: Pick<TapRequest, 'name' | 'netns'>,
  { queues, uid, guard }: NicOptions,
): Tap {
  const tap = openTap(deps, { ...place, queues, uid });
  const [first] = tap.queues;
  if (!guard || first === undefined) return tap;
  try {
    withErrno(`filter what the TAP ${place.name} delivers`, () =>
      deps.native.tunAttachFilter(first.fd, deliveryFilter()),
    );
    return tap;
  } catch (error) {
    tap[Symbol.dispose]();
    throw error;
  }
}

/** Takes away what the end of the TAP does not: its guard, its shaper and a port of OVS. Idempotent, with or without TAP and guard. */
export async function closeTapNic(
  host: Host,
  { tap, attachment, guest, bandwidth }: NodeNic,
  signal?: AbortSignal,
): Promise<void> {
  await settleAll([
    ...(bandwidth?.sent === undefined ? [] : [removeShaper(host, tap, signal)]),
    detachTap(host, tap, attachment, signal),
    removeGuard(host, guardTap(tap, attachment), guest, signal),
  ]);
}

/** Mode `netns`: opens a TAP beside the link, guards it and mirrors the one to the other. All or nothing. */
export async function openPodNic(
  deps: TapDeps,
  nic: PodNic,
  options: NicOptions,
  signal?: AbortSignal,
): Promise<Tap> {
  const { host } = deps;
  const { netns, tap: name, guest, linkMac } = nic;
  const mirror = { netns, tap: name, link: guest.ifName, mtu: guest.mtu };
  await using undo = new AsyncDisposableStack();
  const tap = openGuestTap(deps, { name, netns }, options);
  undo.use(tap);
  undo.defer(() => closePodNic(host, nic).catch(ignore));
  await settleAll([
    applyMirror(host, { ...mirror, sender: options.guard ? 'guard' : 'tc' }, signal),
    ...(options.guard ? [applyGuard(host, guardMirroredTap(netns, name, guest.ifName), guest, signal)] : []),
  ]);
  if (linkMac !== undefined)
    await lendGuestMac(host, { netns, link: guest.ifName, tap: name, linkMac }, guest.mac, signal);
  undo.move();
  return tap;
}

/** Takes away what the end of the TAP does not. Idempotent; a namespace that is gone took it along. */
export async function closePodNic(
  host: Host,
  { netns, tap, guest, linkMac }: PodNic,
  signal?: AbortSignal,
): Promise<void> {
  const { ifName: link } = guest;
  await settleAll([
    removeMirror(host, { netns, link }, signal),
    removeGuard(host, guardMirroredTap(netns, tap, link), guest, signal),
    ...(linkMac === undefined ? [] : [returnLinkMac(host, { netns, link, tap, linkMac }, signal)]),
  ]);
}

/** What went wrong first says more than that undoing it goes wrong as well. */
function ignore(): void {}
