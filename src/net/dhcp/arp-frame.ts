import { ETHERTYPE_ARP, ETHERTYPE_IPV4 } from './protocol-numbers.ts';

export const ARP_REQUEST = 1;
export const ARP_REPLY = 2;

/** Of Ethernet's header and a packet of Ethernet and IPv4. */
export const ARP_FRAME_BYTES = 14 + 28;

/** Who says it of itself, and of whom; MAC addresses and IPv4 addresses. */
export interface ArpParties {
  readonly senderMac: Uint8Array;
  readonly senderIp: Uint8Array;
  /** Also where the frame goes, unless `destinationMac` says otherwise. */
  readonly targetMac: Uint8Array;
  readonly targetIp: Uint8Array;
  readonly destinationMac?: Uint8Array;
}

/** An Ethernet frame with an ARP packet of Ethernet and IPv4 (RFC 826). */
export function encodeArpFrame(operation: number, parties: ArpParties): Buffer {
  const { senderMac, senderIp, targetMac, targetIp, destinationMac = targetMac } = parties;
  return Buffer.concat([
    ...[destinationMac, senderMac, Uint8Array.of(ETHERTYPE_ARP >> 8, ETHERTYPE_ARP & 0xff)],
    ...[arpHeader(operation), senderMac, senderIp, targetMac, targetIp],
  ]);
}

/** Ethernet, IPv4, the lengths of their addresses, operation. */
export function arpHeader(operation: number): Uint8Array {
  return Uint8Array.of(0, 1, ETHERTYPE_IPV4 >> 8, ETHERTYPE_IPV4 & 0xff, 6, 4, 0, operation);
}
