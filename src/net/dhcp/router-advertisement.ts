import { encodeFittingDomainNames } from './domain-names.ts';
import { encodeNeighborDiscoveryFrame } from './encode-packet.ts';
import type { GuestLease } from './guest-lease.ts';
import type { Icmpv6Packet } from './guest-packet.ts';
import type { FrameAnswer } from './frame-answer.ts';
import type { Prefix } from './ip-bytes.ts';
import { isUnspecified, sameBytes } from './ip-bytes.ts';
import type { Lease6 } from './lease6.ts';
import {
  FOREVER,
  NEIGHBOR_ADVERTISEMENT,
  NEIGHBOR_SOLICITATION,
  ROUTER_ADVERTISEMENT,
  ROUTER_SOLICITATION,
} from './protocol-numbers.ts';

/** Seconds for which the guest keeps its default route: all that 16 bits hold (RFC 8319). */
export const ROUTER_LIFETIME_SECONDS = 65535;

const ALL_NODES = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC = Uint8Array.of(0x33, 0x33, 0, 0, 0, 1);
const SMALLEST_MTU = 1280;
const IPV6_AND_ICMPV6 = 44;

/** Answers a router solicitation (RFC 4861, section 6.1.1), and a neighbour solicitation for a router made up by us. */
export function answerNeighborDiscovery(lease: GuestLease, v6: Lease6, packet: Icmpv6Packet): FrameAnswer {
  if (packet.hopLimit !== 255 || packet.code !== 0) return { kind: 'malformed' };
  switch (packet.type) {
    case ROUTER_SOLICITATION: {
      const destination = isUnspecified(packet.source) ? undefined : packet.source;
      return { kind: 'router-advertisement', frame: routerAdvertisement(lease, v6, destination) };
    }
    case NEIGHBOR_SOLICITATION:
      return answerNeighborSolicitation(v6, packet);
    default:
      return { kind: 'malformed' };
  }
}

/**
 * A router advertisement (RFC 4861, section 4.2) to that address, or to all nodes: the guest is to ask DHCPv6 for its
 * address and never to make one up, knows what is on-link, its routes, MTU, DNS servers and search domains.
 */
export function routerAdvertisement(lease: GuestLease, v6: Lease6, destination?: Uint8Array): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt8(64, 0); // hop limit
  header.writeUInt8(MANAGED_ADDRESS | OTHER_CONFIGURATION, 1);
  header.writeUInt16BE(v6.isDefaultRouter ? ROUTER_LIFETIME_SECONDS : 0, 2);
  const body = Buffer.concat([
    header,
    ...(lease.mtu < SMALLEST_MTU ? [] : [ndOption(5, uint16(0), uint32(lease.mtu))]),
    ...v6.onLink.map(prefixInformation),
    ...v6.routes.map(routeInformation),
    ...(v6.nameservers.length === 0 ? [] : [ndOption(25, uint16(0), uint32(FOREVER), ...v6.nameservers)]),
  ]);
  const search = searchList(lease.search, Math.max(lease.mtu, SMALLEST_MTU) - IPV6_AND_ICMPV6 - body.length);
  const path = {
    sourceMac: lease.serverMac,
    destinationMac: destination === undefined ? ALL_NODES_MAC : lease.mac,
    source: v6.routerAddress,
    destination: destination ?? ALL_NODES,
  };
  return encodeNeighborDiscoveryFrame(path, ROUTER_ADVERTISEMENT, Buffer.concat([body, ...search]));
}

const MANAGED_ADDRESS = 0x80;
const OTHER_CONFIGURATION = 0x40;
const ON_LINK = 0x80;

// Not autonomous: the guest's address comes from DHCPv6, and one that it made up would be dropped as spoofed.
function prefixInformation({ network, length }: Prefix): Buffer {
  return ndOption(3, Uint8Array.of(length, ON_LINK), uint32(FOREVER), uint32(FOREVER), uint32(0), network);
}

// RFC 4191, section 2.3, with all bytes of the prefix.
function routeInformation({ network, length }: Prefix): Buffer {
  return ndOption(24, Uint8Array.of(length, 0), uint32(FOREVER), network);
}

// RFC 8106, section 5.2; as many as fit into a packet, with up to 7 bytes to fill the last unit of eight.
function searchList(search: readonly string[], room: number): Buffer[] {
  const names = encodeFittingDomainNames(search, 'plain', room - 8 - 7);
  return names.length === 0 ? [] : [ndOption(31, uint16(0), uint32(FOREVER), names)];
}

/** The guest looks for the router that we made up; who stands behind it is to be found out each time. */
function answerNeighborSolicitation(v6: Lease6, packet: Icmpv6Packet): FrameAnswer {
  const target = packet.body.subarray(4, 20);
  if (target.length !== 16) return { kind: 'malformed' };
  if (v6.gateway === undefined || isUnspecified(packet.source) || !sameBytes(target, v6.routerAddress))
    return { kind: 'not-ours' };
  return { kind: 'gateway-asked', asker: Uint8Array.from(packet.source) };
}

/**
 * Tells the guest that the router it knows has that MAC address, the gateway's. With the router flag, else the guest would
 * take its default route away (RFC 4861, section 7.2.5).
 */
export function neighborAdvertisement(
  lease: GuestLease,
  v6: Lease6,
  asker: Uint8Array,
  mac: Uint8Array,
): FrameAnswer {
  const body = Buffer.concat([uint32(ANSWER_OF_A_ROUTER), v6.routerAddress, ndOption(2, mac)]);
  const path = {
    sourceMac: lease.serverMac,
    destinationMac: lease.mac,
    source: v6.routerAddress,
    destination: asker,
  };
  return {
    kind: 'neighbor-advertisement',
    frame: encodeNeighborDiscoveryFrame(path, NEIGHBOR_ADVERTISEMENT, body),
  };
}

/** Router, solicited, override. */
const ANSWER_OF_A_ROUTER = 0xe0000000;

/** Type, length in units of eight bytes, content, zeros up to a multiple of eight (RFC 4861, section 4.6). */
function ndOption(type: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const units = Math.ceil((2 + content.length) / 8);
  return Buffer.concat([Uint8Array.of(type, units), content], units * 8);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
