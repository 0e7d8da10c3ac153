import { ETHERTYPE_IPV4, ETHERTYPE_IPV6, IP_PROTOCOL_ICMPV6, IP_PROTOCOL_UDP } from './protocol-numbers.ts';

/** What a frame of the guest carries; byte arrays are parts of the frame. */
export type GuestPacket = UdpPacket | Icmpv6Packet;

export interface UdpPacket {
  readonly kind: 'udp';
  readonly sourceMac: Uint8Array;
  /** 4 or 16 bytes. */
  readonly source: Uint8Array;
  readonly destinationPort: number;
  readonly payload: Uint8Array;
}

export interface Icmpv6Packet {
  readonly kind: 'icmpv6';
  readonly sourceMac: Uint8Array;
  readonly source: Uint8Array;
  readonly hopLimit: number;
  readonly type: number;
  readonly code: number;
  /** From behind the checksum on. */
  readonly body: Uint8Array;
}

const ETHERNET = 14;
const IPV4 = 20;
const IPV6 = 40;
const UDP = 8;

/**
 * Reads Ethernet, IPv4 (RFC 791) or IPv6 (RFC 8200, without extension headers), UDP or ICMPv6; undefined for anything
 * else, for fragments and for what is cut short.
 *
 * Checksums are not looked at: where checksum offload is on, the guest leaves them to a network card that this frame
 * never gets to.
 */
export function parseGuestPacket(frame: Uint8Array): GuestPacket | undefined {
  if (frame.length < ETHERNET) return undefined;
  const sourceMac = frame.subarray(6, 12);
  const packet = frame.subarray(ETHERNET);
  switch (uint16(frame, 12)) {
    case ETHERTYPE_IPV4:
      return parseIpv4(sourceMac, packet);
    case ETHERTYPE_IPV6:
      return parseIpv6(sourceMac, packet);
    default:
      return undefined;
  }
}

function parseIpv4(sourceMac: Uint8Array, packet: Uint8Array): GuestPacket | undefined {
  const first = packet[0] ?? 0;
  const headerLength = (first & 0x0f) * 4;
  const totalLength = packet.length < IPV4 ? 0 : uint16(packet, 2);
  const sound =
    first >> 4 === 4 && headerLength >= IPV4 && totalLength >= headerLength && totalLength <= packet.length;
  const fragment = sound && (uint16(packet, 6) & 0x3fff) !== 0;
  if (!sound || fragment || packet[9] !== IP_PROTOCOL_UDP) return undefined;
  return parseUdp(sourceMac, packet.subarray(12, 16), packet.subarray(headerLength, totalLength));
}

function parseIpv6(sourceMac: Uint8Array, packet: Uint8Array): GuestPacket | undefined {
  if (packet.length < IPV6 || (packet[0] ?? 0) >> 4 !== 6) return undefined;
  const end = IPV6 + uint16(packet, 4);
  if (end > packet.length) return undefined;
  const source = packet.subarray(8, 24);
  const body = packet.subarray(IPV6, end);
  if (packet[6] === IP_PROTOCOL_UDP) return parseUdp(sourceMac, source, body);
  if (packet[6] !== IP_PROTOCOL_ICMPV6 || body.length < 4) return undefined;
  const [type = 0, code = 0] = body;
  return { kind: 'icmpv6', sourceMac, source, hopLimit: packet[7] ?? 0, type, code, body: body.subarray(4) };
}

function parseUdp(sourceMac: Uint8Array, source: Uint8Array, datagram: Uint8Array): UdpPacket | undefined {
  if (datagram.length < UDP) return undefined;
  const length = uint16(datagram, 4);
  if (length < UDP || length > datagram.length) return undefined;
  const payload = datagram.subarray(UDP, length);
  return { kind: 'udp', sourceMac, source, destinationPort: uint16(datagram, 2), payload };
}

function uint16(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset] ?? 0) << 8) | (bytes[offset + 1] ?? 0);
}
