import { tapMac } from './tap-name.ts';
import { VLAN_IDS, vlansOf } from './bridge-port.ts';
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
  /** Arguments of bridge(8), and what ip(8) does after it. */
  readonly vlans: readonly (readonly string[])[];
  readonly up: readonly (readonly string[])[];
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
  const set = ['link', 'set', 'dev', tap, 'address', tapMac(guest.mac), 'mtu', String(guest.mtu)];
  const up = [...set, 'up'];
  const nothing = { required: [], sysctls: [], vlans: [], up: [], ovs: undefined };
  switch (attachment.kind) {
    case 'bridge':
      return { ...nothing, ...planBridgePort(tap, attachment, set) };
    case 'ovs':
      return { ...nothing, ip: [up], ovs: planOvsPort(tap, attachment, guest) };
    case 'routed':
      return { ...nothing, ...planRouted(tap, guest, up) };
  }
}

/**
 * The only thing of an attachment that outlives its TAP is an OVS port. Bridge membership, addresses, routes, neighbour
 * entries and sysctls of the TAP go with it, when the last descriptor is closed. The port is named without its bridge:
 * one that somebody moved to another goes as well.
 */
export function planDetachment(tap: string, attachment: TapAttachment): readonly string[] | undefined {
  if (attachment.kind !== 'ovs') return undefined;
  return [OVS_TIMEOUT, '--if-exists', 'del-port', checkLinkName(tap)];
}

type BridgeAttachment = Extract<TapAttachment, { bridge: string }>;

/** With VLANs the TAP comes up last, so that it has never been in the bridge's default one. */
function planBridgePort(
  tap: string,
  { bridge, port = {} }: BridgeAttachment,
  set: readonly string[],
): Pick<AttachmentPlan, 'ip' | 'vlans' | 'up'> {
  const flags = [
    ...(port.isolated === true ? ['isolated', 'on'] : []),
    ...(port.hairpin === true ? ['hairpin', 'on'] : []),
  ];
  const slave = flags.length === 0 ? [] : [['link', 'set', 'dev', tap, 'type', 'bridge_slave', ...flags]];
  const join = [...set, 'master', checkLinkName(bridge)];
  if (port.vlan === undefined && port.trunk === undefined) {
    return { ip: [[...join, 'up'], ...slave], vlans: [], up: [] };
  }
  const add = ['vlan', 'add', 'dev', tap, 'vid'];
  return {
    ip: [join, ...slave],
    vlans: [
      // Whatever the bridge puts new ports into (vlan_default_pvid); a VLAN that is not there is no fault.
      ['vlan', 'del', 'dev', tap, 'vid', `${VLAN_IDS.min}-${VLAN_IDS.max}`],
      ...(port.trunk ?? []).map(({ minID, maxID }) => [
        ...add,
        minID === maxID ? String(minID) : `${minID}-${maxID}`,
      ]),
      // Last, for it may be in a range of the trunk as well.
      ...(port.vlan === undefined ? [] : [[...add, String(port.vlan), 'pvid', 'untagged']]),
    ],
    up: [['link', 'set', 'dev', tap, 'up']],
  };
}

/** ovs-vswitchd.conf.db(5), tables Port and Interface. A port that is left of an earlier VM may be on another bridge. */
function planOvsPort(
  tap: string,
  { bridge, port = {} }: BridgeAttachment,
  guest: GuestInterface,
): readonly string[] {
  const trunks = vlansOf(port);
  const mode = trunks.length === 0 ? 'access' : port.vlan === undefined ? 'trunk' : 'native-untagged';
  return [
    OVS_TIMEOUT,
    ...['--if-exists', 'del-port', tap],
    ...['--', 'add-port', checkLinkName(bridge), tap],
    ...(port.vlan === undefined ? [] : [`tag=${port.vlan}`]),
    ...(trunks.length === 0 ? [] : [`trunks=${trunks.join(',')}`]),
    // Always said: a port of which nothing is said is a trunk of all VLANs.
    `vlan_mode=${mode}`,
    ...(port.isolated === true ? ['protected=true'] : []),
    ...['--', 'set', 'Interface', tap, `external_ids:attached-mac="${guest.mac}"`],
    // Says whether the guard can work there, see attach-tap.ts.
    ...['--', 'get', 'Bridge', bridge, 'datapath_type'],
  ];
}

/**
 * A /32 or /128 route to the guest, and the TAP answers for everything beyond: IPv4 by proxy ARP, which needs a route of
 * the node to whatever is asked for (the default route will do); IPv6 by proxy ND, which must be told each address, so
 * gateways only. The node never takes the gateway's address itself: in a LAN it is that of the real router.
 */
function planRouted(
  tap: string,
  guest: GuestInterface,
  up: readonly string[],
): Pick<AttachmentPlan, 'required' | 'sysctls' | 'ip'> {
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
      up,
      ...gateways6.map((gateway) =>
        isLinkLocal(gateway)
          ? ['address', 'replace', `${gateway}/64`, 'dev', tap, 'nodad']
          : ['neighbor', 'replace', 'proxy', gateway, 'dev', tap],
      ),
      ...v4.map(({ address }) => ['route', 'add', `${address}/32`, 'dev', tap]),
      ...v6.map(({ address }) => ['route', 'add', `${address}/128`, 'dev', tap]),
    ],
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
