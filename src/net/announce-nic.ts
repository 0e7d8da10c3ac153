import type { Native } from '../host/native.ts';
import { openPacketSocket } from '../host/packet-socket.ts';
import type { PodNic } from './attach-nic.ts';
import { arrivalFrames } from './dhcp/arrival-frames.ts';
import { assembleBpf } from './dhcp/bpf-program.ts';

/** Nothing is read here. */
const NOTHING = assembleBpf([{ return: 0 }]);
const BUDGET = { frames: 1, windowMs: 1000 };

/**
 * Mode `netns`: sends out on the pod's link, by us and not by the guest's TAP, what makes gateway and guest know each other's MAC
 * address there, see `arrivalFrames`. The answers come in by the link and go on to the guest.
 * @returns how many frames the kernel took.
 * @throws VmError when the link is gone.
 */
export function announceNic(native: Native, { netns, guest }: Pick<PodNic, 'netns' | 'guest'>): number {
  const frames = arrivalFrames(guest);
  if (frames.length === 0) return 0;
  using socket = openPacketSocket(native, {
    ...{ ifName: guest.ifName, netns, filter: NOTHING, budget: BUDGET },
    onFrame: () => undefined,
  });
  return frames.filter((frame) => socket.send(frame)).length;
}
