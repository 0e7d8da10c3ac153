import { internetChecksum } from './internet-checksum.ts';
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6, IP_PROTOCOL_ICMPV6, IP_PROTOCOL_UDP } from './protocol-numbers.ts';

/** From whom to whom, on the link and on the internet layer; both internet addresses are of one family. */
export interface PacketPath {
  readonly sourceMac: Uint8Array;
  readonly destinationMac: Uint8Array;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
}

/**
 * An Ethernet frame with a UDP datagram (RFC 768) in IPv4 or IPv6. Its checksums are complete, also over IPv4 where UDP's
 * may be left out: no card behind a TAP would complete them, and clients that read raw frames check them.
 */
export function encodeUdpFrame(
  path: PacketPath,
  sourcePort: number,
  destinationPort: number,
  payload: Uint8Array,
): Buffer {
  const datagram = Buffer.alloc(8 + payload.length);
  datagram.writeUInt16BE(sourcePort, 0);
  datagram.writeUInt16BE(destinationPort, 2);
  datagram.writeUInt16BE(datagram.length, 4);
  datagram.set(payload, 8);
  // Zero means "no checksum", so RFC 768 writes a sum of zero as all ones.
  datagram.writeUInt16BE(transportChecksum(path, IP_PROTOCOL_UDP, datagram) || 0xffff, 6);
  return encodeFrame(path, IP_PROTOCOL_UDP, 64, datagram);
}

/** An Ethernet frame with an ICMPv6 message (RFC 4443) of Neighbor Discovery, whose hop limit is always 255. */
export function encodeNeighborDiscoveryFrame(path: PacketPath, type: number, body: Uint8Array): Buffer {
  const message = Buffer.alloc(4 + body.length);
  message.writeUInt8(type, 0);
  message.set(body, 4);
  message.writeUInt16BE(transportChecksum(path, IP_PROTOCOL_ICMPV6, message), 2);
  return encodeFrame(path, IP_PROTOCOL_ICMPV6, 255, message);
}

// Over the pseudo-header of RFC 8200 §8.1, which sums up to the same as that of RFC 768.
function transportChecksum(path: PacketPath, protocol: number, message: Uint8Array): number {
  const lengthAndProtocol = Buffer.alloc(8);
  lengthAndProtocol.writeUInt32BE(message.length, 0);
  lengthAndProtocol.writeUInt32BE(protocol, 4);
  return internetChecksum(path.source, path.destination, lengthAndProtocol, message);
}

function encodeFrame(path: PacketPath, protocol: number, hops: number, message: Uint8Array): Buffer {
  const ipv4 = path.source.length === 4;
  const type = Buffer.alloc(2);
  type.writeUInt16BE(ipv4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6);
  const header = (ipv4 ? ipv4Header : ipv6Header)(path, protocol, hops, message.length);
  return Buffer.concat([path.destinationMac, path.sourceMac, type, header, message]);
}

function ipv4Header(path: PacketPath, protocol: number, hops: number, length: number): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt8(0x45, 0);
  header.writeUInt16BE(header.length + length, 2);
  header.writeUInt16BE(0x4000, 6); // don't fragment
  header.writeUInt8(hops, 8);
  header.writeUInt8(protocol, 9);
  header.set(path.source, 12);
  header.set(path.destination, 16);
  header.writeUInt16BE(internetChecksum(header), 10);
  return header;
}

function ipv6Header(path: PacketPath, protocol: number, hops: number, length: number): Buffer {
  const header = Buffer.alloc(40);
  header.writeUInt8(0x60, 0);
  header.writeUInt16BE(length, 4);
  header.writeUInt8(protocol, 6);
  header.writeUInt8(hops, 7);
  header.set(path.source, 8);
  header.set(path.destination, 24);
  return header;
}
