import { sha1 } from '../core/uuid-v5.ts';

/**
 * Name of the TAP of one NIC in the node's network namespace: 15 bytes (IFNAMSIZ less its NUL), `vt` and 64 bits of the
 * identity. A pure function, so clean-up finds it and a sandbox made anew for the same pod gets the same one.
 * @param owner the pod's UID, or the sandbox's id where nobody told one.
 */
export function tapName(owner: string, ifName: string): string {
  // Not node:crypto, which takes longer to load than all of vm-tap.
  const digest = Buffer.from(sha1(Buffer.from(`tap/${owner}/${ifName}`)));
  return `vt${digest.readBigUInt64BE().toString(36).padStart(13, '0')}`;
}

/**
 * MAC address of the node's end of it: the guest's with a first byte above all that guests have, because a bridge
 * without an address of its own takes the lowest of its ports'.
 */
export function tapMac(guestMac: string): string {
  return `${guestMac.startsWith('fe:') ? 'fa' : 'fe'}${guestMac.slice(2)}`;
}
