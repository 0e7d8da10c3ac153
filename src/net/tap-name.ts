import { createHash } from 'node:crypto';

/**
 * Name of the TAP of one NIC in the node's network namespace: 15 bytes (IFNAMSIZ less its NUL), `vt` and 64 bits of the
 * identity. A pure function, so clean-up finds it and a sandbox made anew for the same pod gets the same one.
 * @param owner the pod's UID, or the sandbox's id where nobody told one.
 */
export function tapName(owner: string, ifName: string): string {
  const digest = createHash('sha256').update(`tap/${owner}/${ifName}`).digest();
  return `vt${digest.readBigUInt64BE().toString(36).padStart(13, '0')}`;
}
