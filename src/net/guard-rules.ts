import { createHash } from 'node:crypto';
import type { GuardPoint } from './guard-point.ts';

/** Why a frame was dropped; each has a set `dropped_REASON` with a counter per guest. */
export const GUARD_REASONS = ['mac', 'protocol', 'arp', 'address', 'nd', 'ra', 'dhcp'] as const;
export type GuardReason = (typeof GUARD_REASONS)[number];

/** The rules for every guest of one kind of point, see nft(8). They name no guest: those are elements of sets. */
export interface GuardRules {
  /** Family and name, as commands want them. */
  readonly table: string;
  /** Makes the table or brings it to these rules, in one transaction, with all guests and counters kept. */
  readonly script: string;
  /** An empty chain whose name says which rules the table has, so that touching it fails if it has others or is gone. */
  readonly marker: string;
}

/** Before anything that rewrites addresses. */
export const GUARD_PRIORITY = -350;

/** IPv6 addresses are raw bits, since nft learnt the field of ND's target late (1.0.8); so one set serves both uses. */
const SETS = [
  'set guests { type ifname; }',
  'set trunks { type ifname; }',
  'set macs { type ifname . ether_addr; }',
  'set ipv4s { type ifname . ipv4_addr; }',
  'set ipv6s { typeof iifname . @th,64,128; }',
  'set reserved6 { typeof @th,64,128; }',
  ...GUARD_REASONS.map((reason) => `set dropped_${reason} { type ifname; counter; }`),
];

/**
 * Frames are accepted for what they are, never for not being something: a rule whose field a truncated frame lacks does
 * not match.
 * - Protocols other than IP and ARP are no business of a pod; RARP (0x8035) requests are how QEMU announces a guest that
 *   has moved.
 * - VLAN tags are for ports with a trunk only. Which VLANs is for the bridge to say, and who has which address in them is
 *   nobody's knowledge here.
 * - DHCP clients look at the port they get a reply on, not at the one it came from, so both are refused.
 * - What a guest asks of DHCP servers and routers has been answered on its TAP already (src/net/dhcp), and is nobody else's
 *   business: it ends here without being counted, since there is nothing wrong with it. So does IGMP before the address.
 * - Link-local IPv6 addresses are the guest's choice (RFC 7217 and Windows make them at random), except those of routers
 *   and the ones that other guests have by their MAC address (RFC 4291, appendix A).
 * - A fragment can hide what it is a fragment of, and nothing that works on the local link needs any (RFC 6980).
 */
const CHAINS: Readonly<Record<string, readonly string[]>> = {
  // Finding the guest in the set is what counts.
  ...Object.fromEntries(
    GUARD_REASONS.map((reason) => [`bad_${reason}`, [`iifname @dropped_${reason} drop`, 'drop']]),
  ),
  guest_arp: [
    'arp htype != 1 goto bad_arp',
    'arp ptype != ip goto bad_arp',
    'arp hlen != 6 goto bad_arp',
    'arp plen != 4 goto bad_arp',
    'iifname . arp saddr ether @macs iifname . arp saddr ip @ipv4s accept',
    // Is the address free (RFC 5227)?
    'iifname . arp saddr ether @macs arp operation request arp saddr ip 0.0.0.0 accept',
    'goto bad_arp',
  ],
  guest_ipv4: [
    'udp sport 67 goto bad_dhcp',
    'udp dport 68 goto bad_dhcp',
    'iifname . ip saddr @ipv4s udp dport 67 drop',
    'iifname . ip saddr @ipv4s accept',
    'ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 drop',
    'ip saddr 0.0.0.0 ip protocol igmp drop',
    'goto bad_address',
  ],
  guest_ipv6_source: [
    'iifname . @nh,64,128 @ipv6s goto guest_ipv6_sound',
    '@nh,64,128 @reserved6 goto bad_address',
    'ip6 saddr fe80::/10 goto guest_ipv6_sound',
    'goto bad_address',
  ],
  guest_ipv6_sound: ['udp dport 547 drop', 'icmpv6 type nd-router-solicit drop', 'accept'],
  guest_nd_source: ['ip6 saddr :: accept', 'goto guest_ipv6_source'],
  guest_nd: [
    'iifname . @th,64,128 @ipv6s goto guest_nd_source',
    '@th,64,128 @reserved6 goto bad_nd',
    // fe80::/10
    '@th,64,10 0x3fa goto guest_nd_source',
    'goto bad_nd',
  ],
  guest_ipv6: [
    'udp sport 547 goto bad_dhcp',
    'udp dport 546 goto bad_dhcp',
    'icmpv6 type { nd-router-advert, nd-redirect } goto bad_ra',
    'ip6 saddr fe80::/10 exthdr frag exists goto bad_nd',
    'ip6 daddr { fe80::/10, ff02::/16 } exthdr frag exists goto bad_nd',
    'icmpv6 type nd-neighbor-advert goto guest_nd',
    'ip6 saddr :: icmpv6 type nd-neighbor-solicit goto guest_nd',
    'ip6 saddr :: icmpv6 type nd-router-solicit drop',
    'ip6 saddr :: icmpv6 type { mld-listener-report, mld2-listener-report } accept',
    'goto guest_ipv6_source',
  ],
  // Nothing but a request (3) from no IPv4 address, which no server answers with anything but the truth.
  guest_rarp: ['@nh,48,16 3 @nh,112,32 0 accept', 'goto bad_protocol'],
  guest: [
    'iifname . ether saddr @macs ether type vmap ' +
      '{ arp : goto guest_arp, ip : goto guest_ipv4, ip6 : goto guest_ipv6, 0x8035 : goto guest_rarp }',
    'iifname @trunks iifname . ether saddr @macs ether type 8021q accept',
    'iifname . ether saddr @macs goto bad_protocol',
    'goto bad_mac',
  ],
};

const RULES: Readonly<Record<GuardPoint['hook'], GuardRules>> = {
  // One hook serves every port of every bridge.
  bridge: renderRules('bridge vmshim', {
    declaration: `type filter hook prerouting priority ${GUARD_PRIORITY}; policy accept;`,
    rules: ['iifname @guests goto guest'],
  }),
  // Each TAP has a hook of its own, made with its entry.
  ingress: renderRules('netdev vmshim', undefined),
};

export function guardRules(hook: GuardPoint['hook']): GuardRules {
  return RULES[hook];
}

function renderRules(
  table: string,
  prerouting: { declaration: string; rules: readonly string[] } | undefined,
): GuardRules {
  const chains = { ...CHAINS, ...(prerouting !== undefined && { prerouting: prerouting.rules }) };
  const names = Object.keys(chains);
  const body = [
    `table ${table} {`,
    ...SETS.map((set) => `  ${set}`),
    // All names first: rules refer to each other's chains, and a chain can be emptied only if it is there.
    ...names.map(
      (name) => `  chain ${name} { ${name === 'prerouting' ? (prerouting?.declaration ?? '') : ''} }`,
    ),
    '}',
    ...names.map((name) => `flush chain ${table} ${name}`),
    `table ${table} {`,
    ...Object.entries(chains).flatMap(([name, rules]) => [
      `  chain ${name} {`,
      ...rules.map((rule) => `    ${rule}`),
      '  }',
    ]),
    '}',
  ];
  const marker = `rules_${createHash('sha256').update(body.join('\n')).digest('hex').slice(0, 8)}`;
  return { table, marker, script: `${[...body, `add chain ${table} ${marker}`].join('\n')}\n` };
}
