import { assembleBpf, type BpfLine, type Label } from './bpf-program.ts';
import type { GuestLease } from './guest-lease.ts';
import {
  DHCP4_SERVER_PORT,
  DHCP6_SERVER_PORT,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  IP_PROTOCOL_ICMPV6,
  IP_PROTOCOL_UDP,
  NEIGHBOR_SOLICITATION,
  ROUTER_SOLICITATION,
} from './protocol-numbers.ts';

/** Offsets into a frame: Ethernet's header is 14 bytes, IPv6's 40. */
const SOURCE_MAC = 6;
const ETHERTYPE = 12;
const IPV4 = 14;
const IPV4_FRAGMENT = IPV4 + 6;
const IPV4_PROTOCOL = IPV4 + 9;
const IPV6_NEXT_HEADER = 14 + 6;
const IPV6_PAYLOAD = 14 + 40;
const UDP_DESTINATION_PORT = 2;
const ND_TARGET = IPV6_PAYLOAD + 8;
const ARP_OPERATION = 14 + 6;
const ARP_TARGET = 14 + 24;

const ARP_REQUEST = 1;

/** More fragments, or an offset. */
const FRAGMENT_BITS = 0x3fff;

/**
 * The packet filter that lets through what this guest's lease has answers for and nothing else: from its MAC address,
 * without a VLAN tag, DHCPv4 to a server, DHCPv6 to a server, router solicitations, neighbour solicitations for the
 * router that we made up, if we did, and ARP requests for gateways that are the node's end of the TAP.
 *
 * @param maxBytes longer frames are cut
 */
export function requestFilter(lease: GuestLease, maxBytes: number): Uint8Array {
  const mac = Buffer.from(lease.mac);
  const [v4, v6]: [Label, Label] = [
    lease.v4 === undefined ? 'drop' : 'ipv4',
    lease.v6 === undefined ? 'drop' : 'ipv6',
  ];
  const gateways4 = lease.v4?.node?.addresses ?? [];
  return assembleBpf([
    // The kernel takes a tag off before we see the frame, and then an answer would go to another network.
    { load: 'vlan-tag-present' },
    { ifEqual: 0, else: 'drop' },
    { load: 'word', at: SOURCE_MAC },
    { ifEqual: mac.readUInt32BE(0), else: 'drop' },
    { load: 'half', at: SOURCE_MAC + 4 },
    { ifEqual: mac.readUInt16BE(4), else: 'drop' },
    { load: 'half', at: ETHERTYPE },
    ...(gateways4.length === 0 ? [] : [{ ifEqual: ETHERTYPE_ARP, then: 'arp' } as const]),
    { ifEqual: ETHERTYPE_IPV4, then: v4 },
    { ifEqual: ETHERTYPE_IPV6, then: v6, else: 'drop' },
    ...(lease.v4 === undefined ? [] : ipv4Lines),
    ...(lease.v6 === undefined
      ? []
      : ipv6Lines(lease.v6.gateway === undefined ? undefined : lease.v6.routerAddress)),
    ...(gateways4.length === 0 ? [] : arpLines(gateways4)),
    { label: 'drop' },
    { return: 0 },
    { label: 'accept' },
    { return: maxBytes },
  ]);
}

const ipv4Lines: readonly BpfLine[] = [
  { label: 'ipv4' },
  { load: 'byte', at: IPV4_PROTOCOL },
  { ifEqual: IP_PROTOCOL_UDP, else: 'drop' },
  { load: 'half', at: IPV4_FRAGMENT },
  { ifAnyBit: FRAGMENT_BITS, then: 'drop' },
  { loadHeaderLength: IPV4 },
  { load: 'half-behind-header', at: IPV4 + UDP_DESTINATION_PORT },
  { ifEqual: DHCP4_SERVER_PORT, then: 'accept', else: 'drop' },
];

function ipv6Lines(ownRouter: Uint8Array | undefined): readonly BpfLine[] {
  return [
    { label: 'ipv6' },
    { load: 'byte', at: IPV6_NEXT_HEADER },
    { ifEqual: IP_PROTOCOL_UDP, then: 'udp6' },
    { ifEqual: IP_PROTOCOL_ICMPV6, else: 'drop' },
    { load: 'byte', at: IPV6_PAYLOAD },
    { ifEqual: ROUTER_SOLICITATION, then: 'accept' },
    ...(ownRouter === undefined
      ? [{ jump: 'drop' } as const]
      : neighborTargetFilter(NEIGHBOR_SOLICITATION, ownRouter)),
    { label: 'udp6' },
    { load: 'half', at: IPV6_PAYLOAD + UDP_DESTINATION_PORT },
    { ifEqual: DHCP6_SERVER_PORT, then: 'accept', else: 'drop' },
  ];
}

/** Lines for ICMPv6 messages of that type, which has been loaded, about that address; the others are dropped. */
export function neighborTargetFilter(type: number, target: Uint8Array): readonly BpfLine[] {
  const bytes = Buffer.from(target);
  return [
    { ifEqual: type, else: 'drop' },
    ...[0, 4, 8, 12].flatMap((at): BpfLine[] => [
      { load: 'word', at: ND_TARGET + at },
      { ifEqual: bytes.readUInt32BE(at), else: 'drop' },
    ]),
    { jump: 'accept' },
  ];
}

function arpLines(gateways: readonly Uint8Array[]): readonly BpfLine[] {
  return [
    { label: 'arp' },
    { load: 'half', at: ARP_OPERATION },
    { ifEqual: ARP_REQUEST, else: 'drop' },
    { load: 'word', at: ARP_TARGET },
    ...gateways.map((gateway): BpfLine => ({
      ifEqual: Buffer.from(gateway).readUInt32BE(0),
      then: 'accept',
    })),
    { jump: 'drop' },
  ];
}
