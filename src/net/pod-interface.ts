import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { ipFamily, maxPrefix, networkOf } from './cni/ip-address.ts';
import type { GuestAddress, GuestInterface, GuestRoute } from './guest-network.ts';
import { execInNetns } from './ip-command.ts';

/** What we use of a link in `ip -details -json address show`. */
export interface IpLink {
  readonly ifindex: number;
  readonly ifname: string;
  readonly flags: readonly string[];
  readonly mtu: number;
  readonly link_type: string;
  readonly address?: string;
  readonly linkinfo?: { readonly info_kind?: string };
  readonly addr_info: readonly IpAddress[];
}

interface IpAddress {
  readonly local?: string;
  /** The other end of a point-to-point address; the prefix is that one's then. */
  readonly address?: string;
  readonly prefixlen: number;
  readonly scope: string;
}

/** What we use of a route in `ip -details -json route show table all`. */
export interface IpRoute {
  readonly type?: string;
  readonly dst: string;
  readonly gateway?: string;
  readonly via?: { readonly host: string };
  readonly dev?: string;
  readonly table?: string;
  /** The lowest wins; absent is 0 for IPv4. */
  readonly metric?: number;
  /** Of a route with several gateways, instead of `gateway` and `dev`. */
  readonly nexthops?: readonly { readonly gateway?: string; readonly dev?: string }[];
  readonly metrics?: readonly { readonly mtu?: number }[];
}

/** Kinds of links a CNI plugin gives to a pod and that pass Ethernet frames; a link without a kind is a real card. */
const PLUGGABLE = new Set([undefined, 'veth', 'macvlan', 'netkit', 'vlan']);

/**
 * Reads what another CNI plugin left in a pod's network namespace: one entry per link that can be given to the guest,
 * `eth0` first, then in the order they were made. DNS is not kept there, so it is empty.
 * @throws VmError FailedPrecondition for a link or a route no guest can be given, NotFound without iproute2.
 */
export async function readPodInterfaces(
  host: Host,
  netns: string,
  signal?: AbortSignal,
): Promise<GuestInterface[]> {
  // `root` names the family: the one word of ip(8) that can do so within a batch.
  const input = [
    'address show',
    'route show table all root 0.0.0.0/0',
    'route show table all root ::/0',
    '',
  ].join('\n');
  const options = { input, signal };
  const { stdout } = await execInNetns(host, netns, 'ip', ['-details', '-json', '-batch', '-'], options);
  const [links = [], routes4 = [], routes6 = []] = stdout
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => JSON.parse(line) as unknown);
  return parsePodInterfaces(links as IpLink[], routes4 as IpRoute[], routes6 as IpRoute[]);
}

/** The pure part of `readPodInterfaces`. */
export function parsePodInterfaces(
  links: readonly IpLink[],
  routes4: readonly IpRoute[],
  routes6: readonly IpRoute[],
): GuestInterface[] {
  const [usable4, usable6] = [withOneDefault(routes4), withOneDefault(routes6)];
  return links
    .filter((link) => link.link_type === 'ether' && link.flags.includes('UP'))
    .filter((link) => isPluggable(link))
    .sort((a, b) => Number(b.ifname === 'eth0') - Number(a.ifname === 'eth0') || a.ifindex - b.ifindex)
    .map((link) =>
      parseInterface(link, [...usable(link, usable4, '0.0.0.0/0'), ...usable(link, usable6, '::/0')]),
    );
}

function isPluggable(link: IpLink): boolean {
  const kind = link.linkinfo?.info_kind;
  if (kind === 'ipvlan' || (kind === 'netkit' && link.flags.includes('NOARP'))) {
    throw new VmError(
      'FailedPrecondition',
      `${link.ifname} in the pod's network is a link of kind ${kind} without MAC addresses of its own, which a VM cannot use; ` +
        'choose a CNI plugin or mode that gives the pod a veth',
    );
  }
  return PLUGGABLE.has(kind);
}

/** Of the default routes of all links the one that the kernel uses: the lowest metric, and of these the first. */
function withOneDefault(routes: readonly IpRoute[]): IpRoute[] {
  const single = routes.flatMap(({ nexthops, ...route }) =>
    nexthops === undefined ? [route] : nexthops.map((hop) => ({ ...route, ...hop })),
  );
  const defaults = single.filter(
    ({ dst, type = 'unicast', table = 'main' }) =>
      dst === 'default' && type === 'unicast' && table === 'main',
  );
  const [best] = defaults.sort((a, b) => (a.metric ?? 0) - (b.metric ?? 0));
  return single.filter((route) => route === best || !defaults.includes(route));
}

interface LinkRoute extends GuestRoute {
  readonly mtu: number | undefined;
}

/** The unicast routes of the main table over a link, destinations in CIDR. */
function usable(link: IpLink, routes: readonly IpRoute[], everything: string): LinkRoute[] {
  return routes
    .filter(
      ({ dev, type = 'unicast', table = 'main' }) =>
        dev === link.ifname && type === 'unicast' && table === 'main',
    )
    .filter(({ dst }) => !/^fe[89ab]/.test(dst))
    .map(({ dst, gateway, via, metrics }) => {
      if (via !== undefined) {
        throw new VmError(
          'FailedPrecondition',
          `the route to ${dst} of ${link.ifname} in the pod's network goes via ${via.host}, a gateway of the other IP family, ` +
            'which DHCP cannot tell a guest; configure the CNI plugin to use a gateway of the same family',
        );
      }
      const destination =
        dst === 'default' ? everything : dst.includes('/') ? dst : `${dst}/${maxPrefix(dst)}`;
      return { destination, gateway, mtu: metrics?.find(({ mtu }) => mtu !== undefined)?.mtu };
    });
}

function parseInterface(link: IpLink, routes: readonly LinkRoute[]): GuestInterface {
  const addresses = link.addr_info
    .filter(({ local, scope }) => local !== undefined && scope !== 'host')
    .filter(({ local, scope }) => local?.includes(':') !== true || scope === 'global')
    .map((info) => parseAddress(info, routes));
  const connected = new Set(addresses.map((address) => network(address.address, address.prefixLength)));
  const kept = routes.filter(
    ({ destination, gateway }) => gateway !== undefined || !connected.has(destination),
  );
  const { mtu = link.mtu } = routes.find(isDefault) ?? {};
  return {
    ifName: link.ifname,
    mac: (link.address ?? '').toLowerCase(),
    // Some CNI plugins leave the link at 1500 and tell the tunnel's overhead by the default route.
    mtu: Math.min(link.mtu, mtu),
    addresses,
    // A gateway outside every network must be reachable before it is used.
    routes: [
      ...kept.filter(({ gateway }) => gateway === undefined),
      ...kept.filter(({ gateway }) => gateway !== undefined),
    ].map(({ destination, gateway }) => ({ destination, gateway })),
    dns: { nameservers: [], search: [] },
  };
}

/**
 * The prefix says which neighbours are on the link. Where the pod has no route for it, as ptp and others leave it, they
 * are behind the gateway and the guest must not look for them.
 */
function parseAddress(info: IpAddress, routes: readonly LinkRoute[]): GuestAddress {
  const address = info.local ?? '';
  const own = network(address, info.prefixlen);
  const onLink = routes.some(({ destination, gateway }) => destination === own && gateway === undefined);
  const pointToPoint = info.address !== undefined && info.address !== info.local;
  const prefixLength = onLink && !pointToPoint ? info.prefixlen : maxPrefix(address);
  const gateway = routes.find((route) => isDefault(route) && sameFamily(route.destination, address))?.gateway;
  return { address, prefixLength, gateway };
}

function network(address: string, prefixLength: number): string {
  return networkOf({ address, prefixLength, text: `${address}/${prefixLength}` });
}

function isDefault({ destination }: GuestRoute): boolean {
  return destination === '0.0.0.0/0' || destination === '::/0';
}

function sameFamily(a: string, b: string): boolean {
  return ipFamily(a) === ipFamily(b);
}
