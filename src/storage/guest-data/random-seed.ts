import { hkdfSync } from 'node:crypto';

const BYTES = 512;

/**
 * `random_seed` of OpenStack's metadata: secret, and the same whenever the VM's drive is made again. Derived from the node's
 * key (RFC 5869), so that there is nothing to keep. It is one source of the guest's entropy; virtio-rng is never the same.
 */
export function randomSeed(nodeKey: string, uuid: string): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', nodeKey, uuid, 'vmshim random seed', BYTES));
}
