import type { OwnedFd } from '../host/host.ts';
import { inNetworkNamespace } from '../host/network-namespace.ts';
import type { PodNic } from './attach-nic.ts';
import { applyGuard } from './guard.ts';
import { guardMirroredTap } from './guard-point.ts';
import { execInNetns } from './ip-command.ts';
import { lendGuestMac } from './link-mac.ts';
import { checkLinkName } from './link-name.ts';
import { silenceTap, type TapDeps } from './tap.ts';
import { applyMirror } from './tc-mirror.ts';

/**
 * Mode `netns`: brings the TAP of a guest that runs into the namespace of its pod's new sandbox and joins it with the link
 * there. Its queues, offloads and filter move along, and QEMU's descriptors of it go on; what joined it with the old link is
 * gone with the move. May be repeated, wherever it failed: until the end the TAP is down, so that nothing passes a guard that
 * is not there yet.
 * @param from the namespace that the TAP is in, as `findTap` gave it; may be the same one.
 */
export async function movePodNic(
  { host, native }: TapDeps,
  { netns, tap, guest, linkMac }: PodNic,
  { from, guard }: { readonly from: OwnedFd; readonly guard: boolean },
  signal?: AbortSignal,
): Promise<void> {
  const name = checkLinkName(tap);
  // Without a name it is reached by our descriptor.
  const old = `/proc/${process.pid}/fd/${from.fd}`;
  await execInNetns(host, old, 'ip', ['link', 'set', 'dev', name, 'down', 'netns', netns], { signal });
  inNetworkNamespace(native, netns, () => silenceTap(host, name));
  const { ifName: link, mac, mtu } = guest;
  if (guard) await applyGuard(host, guardMirroredTap(netns, name, link), guest, signal);
  await applyMirror(host, { netns, tap: name, link, mtu, sender: guard ? 'guard' : 'tc' }, signal);
  if (linkMac !== undefined) await lendGuestMac(host, { netns, link, tap: name, linkMac }, mac, signal);
}
