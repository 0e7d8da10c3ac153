import type { GuardReason } from '../../src/net/guard-rules.ts';
import type { GuardedGuest } from '../../src/net/guard-script.ts';
import {
  ARP,
  arp,
  type ArpFields,
  BROADCAST,
  ethernet,
  fragment,
  icmp6Packet,
  IPV4,
  ipv4,
  IPV6,
  ipv6,
  neighbor,
  udp,
} from './frames.ts';

/** Who is who in the frames. */
export interface GuestNames {
  readonly mac: string;
  readonly ip4: string;
  readonly ip6: string;
  /** Link-local, by the MAC address. */
  readonly local: string;
  readonly gateway4: string;
  /** Link-local IPv6 address of a router. */
  readonly router: string;
  /** Of somebody else. */
  readonly other: {
    readonly mac: string;
    readonly ip4: string;
    readonly ip6: string;
    readonly local: string;
  };
}

export interface GuestFrames {
  /** What must reach nobody. */
  readonly spoofed: readonly (readonly [GuardReason, string, Buffer])[];
  /** What a guest needs. */
  readonly honest: readonly (readonly [string, Buffer])[];
  /** What is answered on the TAP, and is nobody else's business: neither passed on nor counted. */
  readonly answered: readonly (readonly [string, Buffer])[];
}

const RANDOM_LOCAL = 'fe80::5d1c:7a2e:9b3f:1';
/** Of the DHCP responder. */
export const MADE_UP_ROUTER = 'fe80::76:6dff:fe00:1';
const ALL_NODES = 'ff02::1';
const ALL_NODES_MAC = '33:33:00:00:00:01';

const names: GuestNames = {
  mac: '02:00:00:00:00:0a',
  ip4: '10.7.0.5',
  ip6: '2001:db8:7::5',
  local: 'fe80::ff:fe00:a',
  gateway4: '10.7.0.1',
  router: 'fe80::1',
  other: { mac: '02:00:00:00:00:0b', ip4: '10.7.0.6', ip6: '2001:db8:7::6', local: 'fe80::ff:fe00:b' },
};

export const guardedGuest: GuardedGuest = {
  mac: names.mac,
  addresses: [
    { address: names.ip4, prefixLength: 24, gateway: names.gateway4 },
    { address: names.ip6, prefixLength: 64, gateway: names.router },
  ],
  routes: [],
};

/** A neighbour with the same guard. */
export const otherGuest: GuardedGuest = { mac: names.other.mac, addresses: [], routes: [] };

/** Hop-by-hop or destination options of 8 bytes. */
const options = (nextHeader: number): Buffer => Buffer.from([nextHeader, 0, 1, 4, 0, 0, 0, 0]);
const tagged = (inner: Buffer, tag = '81000005'): Buffer =>
  Buffer.concat([inner.subarray(0, 12), Buffer.from(tag, 'hex'), inner.subarray(12)]);

/** The frames of a guest of these names. */
export function guestFrames(names: GuestNames): GuestFrames {
  const { mac: MAC, ip4: IP, ip6: IP6, local: LOCAL, router: ROUTER } = names;
  const { mac: OTHER_MAC, ip4: OTHER_IP, ip6: OTHER_IP6, local: OTHER_LOCAL } = names.other;
  const arpFrame = (fields: Partial<ArpFields>, source = MAC): Buffer =>
    ethernet(
      BROADCAST,
      source,
      ARP,
      arp({ operation: 2, senderMac: MAC, senderIp: IP, targetIp: OTHER_IP, ...fields }),
    );
  const v4 = (source: string, ports: [number, number], mac = MAC, destination = '255.255.255.255'): Buffer =>
    ethernet(BROADCAST, mac, IPV4, ipv4(source, destination, 17, udp(...ports, Buffer.from('data'))));
  const v6 = (packet: Buffer, mac = MAC): Buffer => ethernet(ALL_NODES_MAC, mac, IPV6, packet);
  const nd = (type: number, source: string, target: string): Buffer =>
    v6(icmp6Packet(source, ALL_NODES, type, neighbor(0x20000000, target, 2, MAC)));
  const plain6 = (source: string, ports: [number, number] = [1000, 2000]): Buffer =>
    v6(ipv6(source, ALL_NODES, 17, udp(...ports, Buffer.from('data'))));
  const advert = (source: string): Buffer => icmp6Packet(source, ALL_NODES, 134, Buffer.alloc(12));
  const rarp = (operation: number, senderIp: string): Buffer =>
    ethernet(BROADCAST, MAC, 0x8035, arp({ operation, senderMac: MAC, senderIp, targetIp: '0.0.0.0' }));
  const truncatedArp = (): Buffer => Buffer.concat([arpFrame({ senderIp: OTHER_IP }).subarray(0, 14 + 10)]);

  const spoofed: GuestFrames['spoofed'] = [
    ['mac', 'another MAC address', v4(IP, [1000, 2000], OTHER_MAC)],
    ['mac', 'ARP from another MAC address', arpFrame({}, OTHER_MAC)],
    ['mac', 'another MAC address and protocol', ethernet(BROADCAST, OTHER_MAC, 0x88b5, Buffer.alloc(46))],
    ['protocol', 'another protocol', ethernet(BROADCAST, MAC, 0x88b5, Buffer.alloc(46))],
    ['protocol', 'LLC, as of spanning tree', ethernet(BROADCAST, MAC, 46, Buffer.alloc(46))],
    ['protocol', 'a VLAN tag', tagged(v4(IP, [1000, 2000]))],
    ['protocol', 'two VLAN tags', tagged(tagged(v4(OTHER_IP, [1000, 2000])))],
    [
      'protocol',
      'a tag without a VLAN, as of a priority',
      tagged(arpFrame({ senderIp: OTHER_IP }), '81006000'),
    ],
    ['protocol', 'a tag of a provider’s', tagged(v4(OTHER_IP, [1000, 2000]), '88a80005')],
    ['protocol', 'an old tag of a provider’s', tagged(v4(OTHER_IP, [1000, 2000]), '91000005')],
    ['protocol', 'IPX', ethernet(BROADCAST, MAC, 0x8137, Buffer.alloc(46))],
    ['protocol', 'LLDP', ethernet(BROADCAST, MAC, 0x88cc, Buffer.alloc(46))],
    ['protocol', 'RARP answer', rarp(4, '0.0.0.0')],
    ['protocol', 'RARP request from an address', rarp(3, OTHER_IP)],
    [
      'arp',
      'gratuitous ARP for the gateway',
      arpFrame({ senderIp: names.gateway4, targetIp: names.gateway4 }),
    ],
    ['arp', 'ARP for a neighbour', arpFrame({ senderIp: OTHER_IP })],
    ['arp', 'ARP request for a neighbour', arpFrame({ operation: 1, senderIp: OTHER_IP })],
    ['arp', 'ARP that names another MAC address', arpFrame({ senderMac: OTHER_MAC })],
    ['arp', 'ARP reply from nobody', arpFrame({ senderIp: '0.0.0.0' })],
    ['arp', 'ARP of other hardware', arpFrame({ hardwareType: 6 })],
    ['arp', 'ARP with longer addresses', arpFrame({ hardwareLength: 8 })],
    ['arp', 'ARP cut short', truncatedArp()],
    ['address', 'another IPv4 address', v4(OTHER_IP, [1000, 2000])],
    ['address', 'no IPv4 address', v4('0.0.0.0', [1000, 2000])],
    ['address', 'no IPv4 address, DHCP to a neighbour', v4('0.0.0.0', [68, 67], MAC, OTHER_IP)],
    ['address', 'another IPv6 address', plain6(OTHER_IP6)],
    ['address', 'no IPv6 address', plain6('::')],
    ['address', 'the router’s link-local address', plain6(ROUTER)],
    ['address', 'a neighbour’s link-local address', plain6(OTHER_LOCAL)],
    ['address', 'ND from a neighbour', nd(135, OTHER_LOCAL, names.router)],
    ['nd', 'ND for a neighbour', nd(136, IP6, OTHER_IP6)],
    ['nd', 'ND for a neighbour’s link-local address', nd(136, IP6, OTHER_LOCAL)],
    ['nd', 'ND for the router', nd(136, RANDOM_LOCAL, ROUTER)],
    ['nd', 'ND for the router that guests are told of', nd(136, RANDOM_LOCAL, MADE_UP_ROUTER)],
    ['nd', 'claim of a neighbour’s address', nd(135, '::', OTHER_IP6)],
    ['nd', 'a fragment that hides ND', v6(ipv6(LOCAL, ALL_NODES, 44, fragment(60, 0, true, options(58))))],
    ['nd', 'a fragment to the link', v6(ipv6(IP6, 'fe80::b', 44, fragment(17, 8, false, Buffer.alloc(16))))],
    ['ra', 'router advertisement', v6(advert(LOCAL))],
    ['ra', 'router advertisement from the router', v6(advert(ROUTER))],
    [
      'ra',
      'router advertisement after options',
      v6(ipv6(LOCAL, ALL_NODES, 60, Buffer.concat([options(58), advert(LOCAL).subarray(40)]))),
    ],
    ['ra', 'redirect', v6(icmp6Packet(LOCAL, ALL_NODES, 137, Buffer.alloc(36)))],
    ['dhcp', 'DHCP offer', v4(IP, [67, 68])],
    ['dhcp', 'DHCP offer from another port', v4(IP, [1067, 68])],
    ['dhcp', 'DHCP server to a relay', v4(IP, [67, 67])],
    ['dhcp', 'DHCPv6 advertisement', plain6(LOCAL, [547, 546])],
    ['dhcp', 'DHCPv6 advertisement from another port', plain6(IP6, [1547, 546])],
  ];

  const honest: GuestFrames['honest'] = [
    ['IPv4', v4(IP, [1000, 2000])],
    ['ARP request', arpFrame({ operation: 1 })],
    ['gratuitous ARP for itself', arpFrame({ targetIp: IP })],
    ['ARP probe', arpFrame({ operation: 1, senderIp: '0.0.0.0', targetIp: IP })],
    ['RARP request, as of QEMU', rarp(3, '0.0.0.0')],
    ['IPv6', plain6(IP6)],
    ['IPv6 from its link-local address', plain6(LOCAL)],
    ['IPv6 from a random link-local address', plain6(RANDOM_LOCAL)],
    [
      'IPv6 fragment',
      ethernet(ALL_NODES_MAC, MAC, IPV6, ipv6(IP6, 'ff0e::1', 44, fragment(17, 8, false, Buffer.alloc(16)))),
    ],
    ['ND for itself', nd(136, IP6, IP6)],
    ['ND for its link-local address', nd(136, LOCAL, LOCAL)],
    ['ND for its random link-local address', nd(136, RANDOM_LOCAL, RANDOM_LOCAL)],
    ['ND for the router', nd(135, IP6, ROUTER)],
    ['ND for a neighbour', nd(135, LOCAL, OTHER_IP6)],
    ['duplicate address detection', nd(135, '::', IP6)],
    ['duplicate detection of its link-local address', nd(135, '::', RANDOM_LOCAL)],
    [
      'multicast listener report',
      v6(
        ipv6(
          '::',
          ALL_NODES,
          0,
          Buffer.concat([options(58), icmp6Packet('::', ALL_NODES, 143, Buffer.alloc(4)).subarray(40)]),
        ),
      ),
    ],
  ];

  const answered: GuestFrames['answered'] = [
    ['DHCP discovery', v4('0.0.0.0', [68, 67])],
    ['DHCP renewal', v4(IP, [68, 67], MAC, '10.7.0.1')],
    ['router solicitation', v6(icmp6Packet('::', ALL_NODES, 133, Buffer.alloc(4)))],
    ['router solicitation with an address', v6(icmp6Packet(LOCAL, ALL_NODES, 133, Buffer.alloc(4)))],
    ['DHCPv6 solicitation', plain6(RANDOM_LOCAL, [546, 547])],
    [
      'IGMP without an address',
      ethernet(BROADCAST, MAC, IPV4, ipv4('0.0.0.0', '224.0.0.22', 2, Buffer.alloc(8))),
    ],
  ];
  return { spoofed, honest, answered };
}

export const { spoofed, honest, answered } = guestFrames(names);
