import type { Host } from '../host/host.ts';
import { attachTap, detachTap } from './attach-tap.ts';
import { applyGuard, removeGuard } from './guard.ts';
import { guardMirroredTap, guardTap } from './guard-point.ts';
import type { GuestInterface, TapHandover } from './guest-network.ts';
import { settleAll } from './settle-all.ts';
import { openTap, type Tap, type TapDeps } from './tap.ts';
import { applyMirror, removeMirror } from './tc-mirror.ts';

export interface NicOptions {
  readonly queues: number;
  /** The user QEMU runs as. */
  readonly uid: number;
  /** Whether the guest is held to its own addresses. */
  readonly guard: boolean;
}

/** A NIC of mode `netns`: the pod's link it stands for, and the TAP beside it. */
export interface PodNic {
  readonly netns: string;
  readonly tap: string;
  /** As `readPodInterfaces` gave it; its `ifName` is the link. */
  readonly guest: GuestInterface;
}

/**
 * Mode `tap`: opens the TAP of a hand-over, guards it and makes it a port of its network. All or nothing: what was done
 * is undone when this throws. Two commands run side by side, `ip` and `nft`; test/integration/net-nic.test.ts says how long.
 */
export async function openTapNic(
  deps: TapDeps,
  { tap: name, attachment, guest }: Pick<TapHandover, 'tap' | 'attachment' | 'guest'>,
  options: NicOptions,
  signal?: AbortSignal,
): Promise<Tap> {
  const { host } = deps;
  await using undo = new AsyncDisposableStack();
  const tap = openTap(deps, { name, netns: undefined, ...options });
  undo.use(tap);
  undo.defer(() => closeTapNic(host, { tap: name, attachment, guest }).catch(ignore));
  await settleAll([
    attachTap(host, name, attachment, guest, { guarded: options.guard, signal }),
    ...(options.guard ? [applyGuard(host, guardTap(name, attachment), guest, signal)] : []),
  ]);
  undo.move();
  return tap;
}

/** Takes away what the end of the TAP does not: its guard and a port of OVS. Idempotent, with or without TAP and guard. */
export async function closeTapNic(
  host: Host,
  { tap, attachment, guest }: Pick<TapHandover, 'tap' | 'attachment' | 'guest'>,
  signal?: AbortSignal,
): Promise<void> {
  await settleAll([
    detachTap(host, tap, attachment, signal),
    removeGuard(host, guardTap(tap, attachment), guest, signal),
  ]);
}

/** Mode `netns`: opens a TAP beside the link, guards it and mirrors the one to the other. All or nothing. */
export async function openPodNic(
  deps: TapDeps,
  { netns, tap: name, guest }: PodNic,
  options: NicOptions,
  signal?: AbortSignal,
): Promise<Tap> {
  const { host } = deps;
  const mirror = { netns, tap: name, link: guest.ifName, mtu: guest.mtu };
  await using undo = new AsyncDisposableStack();
  const tap = openTap(deps, { name, netns, ...options });
  undo.use(tap);
  undo.defer(() => closePodNic(host, { netns, tap: name, guest }).catch(ignore));
  await settleAll([
    applyMirror(host, { ...mirror, sender: options.guard ? 'guard' : 'tc' }, signal),
    ...(options.guard ? [applyGuard(host, guardMirroredTap(netns, name, guest.ifName), guest, signal)] : []),
  ]);
  undo.move();
  return tap;
}

/** Takes away what the end of the TAP does not. Idempotent; a namespace that is gone took it along. */
export async function closePodNic(
  host: Host,
  { netns, tap, guest }: PodNic,
  signal?: AbortSignal,
): Promise<void> {
  await settleAll([
    removeMirror(host, { netns, link: guest.ifName }, signal),
    removeGuard(host, guardMirroredTap(netns, tap, guest.ifName), guest, signal),
  ]);
}

/** What went wrong first says more than that undoing it goes wrong as well. */
function ignore(): void {}
