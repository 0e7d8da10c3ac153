import { describeError } from '../core/errors.ts';
import { announceNic } from '../net/announce-nic.ts';
import type { GuestServices } from './guest-nics.ts';
import type { MachineDeps } from './machine-request.ts';
import type { NicPlan } from './nic-plan.ts';

/**
 * A frame may be lost: a link that was just made drops what it is to send until the kernel has looked at its carrier, which may
 * take a second, and an IPv6 gateway made with the sandbox answers nobody before it has looked for duplicates of its address
 * (RFC 4862, section 5.4), some 2 s, and longer on a busy node.
 */
const AGAIN_MS = [250, 1_000, 2_000, 6_000];

/**
 * Makes a guest that goes on in its pod's new sandbox and its gateways know each other's MAC address there, so that its
 * connections go on at once. A guest whose addresses are others asks by itself, once its cable is in again. Disposing gives
 * further times up.
 */
export function announceArrival(
  { native, log }: Pick<MachineDeps, 'native' | 'log'>,
  nics: readonly NicPlan[],
  dhcp: Pick<GuestServices, 'tellGateway'>,
  id: string,
): Disposable {
  const announce = (): void =>
    nics.forEach((nic, i) => {
      if (nic.kind !== 'netns' || nic.untold === true) return;
      try {
        const frames = announceNic(native, nic);
        log.debug('told the guest’s network where it is now', { id, card: nic.guest.ifName, frames });
        dhcp.tellGateway(i);
      } catch (error) {
        const [card, told] = [nic.guest.ifName, describeError(error)];
        log.warn('the guest’s network could not be told where it is now', { id, card, error: told });
      }
    });
  announce();
  const timers = AGAIN_MS.map((ms) => setTimeout(announce, ms).unref());
  return { [Symbol.dispose]: () => timers.forEach((timer) => clearTimeout(timer)) };
}
