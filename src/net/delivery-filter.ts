import { assembleBpf, type BpfLine, type Label } from './dhcp/bpf-program.ts';
import {
  DHCP4_CLIENT_PORT,
  DHCP6_CLIENT_PORT,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  IP_PROTOCOL_ICMPV6,
  IP_PROTOCOL_UDP,
  ROUTER_ADVERTISEMENT,
} from './dhcp/protocol-numbers.ts';

/** What the DHCP responder's frames carry, so that they are told from those of others: a mark never leaves the node. */
export const RESPONDER_MARK = 0x766d0001;

const WHOLE_FRAME = 0x40000;
/** Headers in a row that are looked at; nobody honest sends more extension headers than fit into that. */
const MAX_EXTENSIONS = 7;
const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const DESTINATION_OPTIONS = 60;
const FRAGMENT_OFFSET = 0x1fff;
const LINK_LOCAL = 0xfe80;
const LINK_LOCAL_MASK = 0xffc0;

/**
 * The packet filter of a guarded guest's TAP for what goes to the guest: its addresses, routers and name servers are told
 * by our responder alone, so DHCP replies and router advertisements of others are dropped, also behind extension headers
 * (RFC 7113). Fragments to or from a link-local address may hide one, and nothing needs them there (RFC 6980).
 *
 * It is part of the TAP: it works for every attachment, costs no command and cannot be flushed with the firewall.
 */
export function deliveryFilter(): Uint8Array {
  return assembleBpf([
    { load: 'mark' },
    { ifEqual: RESPONDER_MARK, then: 'accept' },
    { load: 'half', at: 12 },
    { ifEqual: ETHERTYPE_IPV6, then: 'ipv6' },
    { ifEqual: ETHERTYPE_IPV4, else: 'accept' },
    { load: 'byte', at: 14 + 9 },
    { ifEqual: IP_PROTOCOL_UDP, else: 'accept' },
    { load: 'half', at: 14 + 6 },
    { ifAnyBit: FRAGMENT_OFFSET, then: 'accept' },
    { loadHeaderLength: 14 },
    { load: 'half-behind-header', at: 14 + 2 },
    { ifEqual: DHCP4_CLIENT_PORT, then: 'drop', else: 'accept' },
    { label: 'ipv6' },
    ...ipv6Lines(),
    { label: 'drop' },
    { return: 0 },
    { label: 'accept' },
    { return: WHOLE_FRAME },
  ]);
}

/** The index register holds where a header begins, counted from the start of IPv6's own; the accumulator, of which kind. */
function ipv6Lines(): readonly BpfLine[] {
  return [
    { loadIndex: 40 },
    { load: 'byte', at: 14 + 6 },
    ...Array.from({ length: MAX_EXTENSIONS }, (_, i) => throughExtension(`extension${i}`)).flat(),
    { jump: 'drop' },
    { label: 'fragment' },
    { load: 'half', at: 14 + 8 },
    { and: LINK_LOCAL_MASK },
    { ifEqual: LINK_LOCAL, then: 'drop' },
    { load: 'half', at: 14 + 24 },
    { and: LINK_LOCAL_MASK },
    { ifEqual: LINK_LOCAL, then: 'drop', else: 'accept' },
    { label: 'udp6' },
    { load: 'half-behind-header', at: 14 + 2 },
    { ifEqual: DHCP6_CLIENT_PORT, then: 'drop', else: 'accept' },
    { label: 'icmp6' },
    { load: 'byte-behind-header', at: 14 },
    { ifEqual: ROUTER_ADVERTISEMENT, then: 'drop', else: 'accept' },
  ];
}

/** Decides on a header, or goes on to what follows an extension header: its kind is told first, then its length. */
function throughExtension(behind: Label): readonly BpfLine[] {
  return [
    { ifEqual: IP_PROTOCOL_UDP, then: 'udp6' },
    { ifEqual: IP_PROTOCOL_ICMPV6, then: 'icmp6' },
    { ifEqual: FRAGMENT, then: 'fragment' },
    { ifEqual: HOP_BY_HOP, then: behind },
    { ifEqual: ROUTING, then: behind },
    { ifEqual: DESTINATION_OPTIONS, else: 'accept' },
    { label: behind },
    { load: 'byte-behind-header', at: 14 },
    { store: 0 },
    { load: 'byte-behind-header', at: 14 + 1 },
    // In units of eight bytes without the first eight (RFC 8200, section 4).
    { add: 1 },
    { shiftLeft: 3 },
    { addIndex: true },
    { setIndex: true },
    { loadStored: 0 },
  ];
}
