import { encodeNeighborDiscoveryFrame } from './encode-packet.ts';
import { isUnspecified } from './ip-bytes.ts';
import { NEIGHBOR_SOLICITATION } from './protocol-numbers.ts';

/** The source of a question whose answer all hear. */
export const NOBODY = new Uint8Array(16);

/**
 * A neighbour solicitation (RFC 4861, section 4.3) for an IPv6 address, sent from that MAC address to whoever may have it.
 * @param source of the question: an address of the asker, or `NOBODY`
 */
export function encodeNeighborQuestion(mac: Uint8Array, target: Uint8Array, source: Uint8Array): Buffer {
  const [a = 0, b = 0, c = 0] = target.subarray(13);
  const path = {
    sourceMac: mac,
    destinationMac: Uint8Array.of(0x33, 0x33, 0xff, a, b, c),
    source,
    destination: Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c),
  };
  // Without an address of its own a question must not name a MAC address.
  const option = isUnspecified(source) ? new Uint8Array() : Uint8Array.of(1, 1, ...mac);
  return encodeNeighborDiscoveryFrame(
    path,
    NEIGHBOR_SOLICITATION,
    Buffer.concat([new Uint8Array(4), target, option]),
  );
}
