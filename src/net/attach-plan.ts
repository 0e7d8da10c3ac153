import { tapMac } from './tap-name.ts';
import type { GuestInterface, TapAttachment } from './guest-network.ts';
import { canonicalIp, ipFamily } from './cni/ip-address.ts';
import { checkLinkName } from './link-name.ts';

/** What makes a TAP in the node's namespace a port of its network. Carried out in the order of the fields. */
export interface AttachmentPlan {
  /** What must be on already, because turning it on changes the node's own network. */
  readonly required: readonly Sysctl[];
  readonly sysctls: readonly Sysctl[];
  /** Arguments of ip(8). */
  readonly ip: readonly (readonly string[])[];
  /** Arguments of ovs-vsctl(8). */
  readonly ovs: readonly string[] | undefined;
}

export interface Sysctl {
  /** Below /proc/sys/net. */
  readonly path: string;
  readonly value: string;
}

/** How long ovs-vsctl waits for ovs-vswitchd, in seconds; without it, for ever. */
const OVS_TIMEOUT = '--timeout=5';

export function planAttachment(
  tap: string,
  attachment: TapAttachment,
  guest: GuestInterface,
): AttachmentPlan {
  checkLinkName(tap);
  // A bridge without an address of its own takes the lowest of its ports', which must not be a guest's.
  const up = ['link', 'set', 'dev', tap, 'address', tapMac(guest.mac), 'mtu', String(guest.mtu)];
  const nothing = { required: [], sysctls: [], ovs: undefined };
  switch (attachment.kind) {
    case 'bridge':
      return { ...nothing, ip: [[...up, 'master', checkLinkName(attachment.bridge), 'up']] };
    case 'ovs':
      return {
        ...nothing,
        ip: [[...up, 'up']],
        ovs: [
          OVS_TIMEOUT,
          ...['--may-exist', 'add-port', checkLinkName(attachment.bridge), tap],
          ...['--', 'set', 'Interface', tap, `external_ids:attached-mac="${guest.mac}"`],
        ],
      };
    case 'routed':
      return planRouted(tap, guest, up);
  }
}

/**
 * The only thing of an attachment that outlives its TAP is an OVS port. Bridge membership, addresses, routes, neighbour
 * entries and sysctls of the TAP go with it, when the last descriptor is closed.
 */
export function planDetachment(tap: string, attachment: TapAttachment): readonly string[] | undefined {
  if (attachment.kind !== 'ovs') return undefined;
  return [OVS_TIMEOUT, '--if-exists', 'del-port', checkLinkName(attachment.bridge), checkLinkName(tap)];
}

/**
 * A /32 or /128 route to the guest, and the TAP answers for everything beyond: IPv4 by proxy ARP, which needs a route of
 * the node to whatever is asked for (the default route will do); IPv6 by proxy ND, which must be told each address, so
 * gateways only. The node never takes the gateway's address itself: in a LAN it is that of the real router.
 */
function planRouted(tap: string, guest: GuestInterface, up: readonly string[]): AttachmentPlan {
  const v4 = guest.addresses.filter(({ address }) => ipFamily(address) === 4);
  const v6 = guest.addresses.filter(({ address }) => ipFamily(address) === 6);
  const gateways6 = [...new Set([...v6, ...guest.routes].map(({ gateway }) => gateway))]
    .filter((gateway) => gateway !== undefined)
    .filter((gateway) => ipFamily(gateway) === 6);
  return {
    // Turned on, it makes the node forget the default routes it has from router advertisements.
    required: v6.length > 0 ? [{ path: 'ipv6/conf/all/forwarding', value: '1' }] : [],
    sysctls: [...(v4.length > 0 ? sysctls4(tap) : []), ...(v6.length > 0 ? sysctls6(tap) : [])],
    ip: [
      [...up, 'up'],
      ...gateways6.map((gateway) =>
        isLinkLocal(gateway)
          ? ['address', 'replace', `${gateway}/64`, 'dev', tap, 'nodad']
          : ['neighbor', 'replace', 'proxy', gateway, 'dev', tap],
      ),
      ...v4.map(({ address }) => ['route', 'add', `${address}/32`, 'dev', tap]),
      ...v6.map(({ address }) => ['route', 'add', `${address}/128`, 'dev', tap]),
    ],
    ovs: undefined,
  };
}

function sysctls4(tap: string): Sysctl[] {
  return [
    { path: 'ipv4/ip_forward', value: '1' },
    { path: `ipv4/conf/${tap}/forwarding`, value: '1' },
    { path: `ipv4/conf/${tap}/proxy_arp`, value: '1' },
    // By default a proxy waits for up to 0.8 s, to let the real owner answer first.
    { path: `ipv4/neigh/${tap}/proxy_delay`, value: '0' },
    { path: `ipv4/conf/${tap}/accept_redirects`, value: '0' },
    { path: `ipv4/conf/${tap}/send_redirects`, value: '0' },
  ];
}

function sysctls6(tap: string): Sysctl[] {
  return [
    { path: `ipv6/conf/${tap}/accept_ra`, value: '0' },
    { path: `ipv6/conf/${tap}/accept_redirects`, value: '0' },
    { path: `ipv6/conf/${tap}/forwarding`, value: '1' },
    { path: `ipv6/conf/${tap}/proxy_ndp`, value: '1' },
    { path: `ipv6/neigh/${tap}/proxy_delay`, value: '0' },
    { path: `ipv6/conf/${tap}/dad_transmits`, value: '0' },
    { path: `ipv6/conf/${tap}/disable_ipv6`, value: '0' },
  ];
}

/** fe80::/10. */
function isLinkLocal(address: string): boolean {
  return /^fe[89ab]/.test(canonicalIp(address) ?? '');
}
