import { ARP_FRAME_BYTES, ARP_REPLY, ARP_REQUEST, arpHeader, encodeArpFrame } from './arp-frame.ts';
import type { FrameAnswer } from './frame-answer.ts';
import type { GuestLease } from './guest-lease.ts';
import { sameBytes } from './ip-bytes.ts';
import { ETHERTYPE_ARP } from './protocol-numbers.ts';

/** True for a frame that `answerArp` is for. */
export function isArp(frame: Uint8Array): boolean {
  return frame.length >= 14 && uint16(frame, 12) === ETHERTYPE_ARP;
}

/**
 * Tells a guest whose network is the node's end of the TAP the MAC address of its gateway. The kernel does so as well
 * (proxy ARP), but only while the node has a route to the gateway's address, of which that of a routed guest needs none.
 */
export function answerArp(lease: GuestLease, frame: Uint8Array): FrameAnswer {
  if (frame.length < ARP_FRAME_BYTES || !sameBytes(frame.subarray(14, 22), REQUEST_HEADER))
    return { kind: 'malformed' };
  const senderMac = frame.subarray(22, 28);
  const senderIp = frame.subarray(28, 32);
  const targetIp = frame.subarray(38, 42);
  const node = lease.v4?.node;
  const known = node?.addresses.some((address) => sameBytes(address, targetIp)) ?? false;
  const honest = sameBytes(senderMac, lease.mac) && sameBytes(frame.subarray(6, 12), lease.mac);
  if (node === undefined || !known || !honest) return { kind: 'not-ours' };
  const reply = encodeArpFrame(ARP_REPLY, {
    ...{ senderMac: node.mac, senderIp: targetIp },
    ...{ targetMac: senderMac, targetIp: senderIp },
  });
  return { kind: 'arp-reply', frame: reply };
}

const REQUEST_HEADER = arpHeader(ARP_REQUEST);

function uint16(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset] ?? 0) << 8) | (bytes[offset + 1] ?? 0);
}
