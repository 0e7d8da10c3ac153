import { createHash } from 'node:crypto';

export const MAC_TYPE = 'a unicast MAC address such as "52:54:00:12:34:56"';

/**
 * The guest's MAC address for one NIC: KVM's prefix and 24 bits of the identity, the same for every sandbox of the pod.
 * @param owner the pod's UID, or the sandbox's id where nobody told one.
 */
export function deriveMac(owner: string, ifName: string): string {
  const digest = createHash('sha256').update(`mac/${owner}/${ifName}`).digest('hex');
  return `52:54:00:${digest.slice(0, 2)}:${digest.slice(2, 4)}:${digest.slice(4, 6)}`;
}

/**
 * MAC address of the node's end, the TAP itself: the guest's with a first byte above all that guests have, because a
 * bridge without an address of its own takes the lowest of its ports'.
 */
export function tapMac(guestMac: string): string {
  return `${guestMac.startsWith('fe:') ? 'fa' : 'fe'}${guestMac.slice(2)}`;
}

/** Lower case; undefined for a malformed, multicast or zero one. */
export function parseMac(text: string): string | undefined {
  const mac = text.toLowerCase();
  const unicast = (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0;
  return /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac) && unicast && mac !== '00:00:00:00:00:00'
    ? mac
    : undefined;
}
