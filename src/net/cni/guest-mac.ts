import { sha1 } from '../../core/uuid-v5.ts';

export const MAC_TYPE = 'a unicast MAC address such as "52:54:00:12:34:56"';

/**
 * The guest's MAC address for one NIC, the same for every sandbox of the pod: 40 bits of the identity behind 52, a
 * locally administered first byte (IEEE 802, 8.4). Of 1000 guests in one network two have the same one in a case of two
 * million. KVM's customary 52:54:00 would leave 24 bits, for which that is one case in 34.
 * @param owner the pod's UID, or the sandbox's id where nobody told one.
 */
export function deriveMac(owner: string, ifName: string): string {
  const tail = sha1(Buffer.from(`mac/${owner}/${ifName}`)).subarray(0, 5);
  return ['52', ...[...tail].map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
}

/** Lower case; undefined for a malformed, multicast or zero one. */
export function parseMac(text: string): string | undefined {
  const mac = text.toLowerCase();
  const unicast = (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0;
  return /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac) && unicast && mac !== '00:00:00:00:00:00'
    ? mac
    : undefined;
}
