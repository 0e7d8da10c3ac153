import type { GuestAddress } from '../guest-network.ts';
import type { Lease, StoredHandover } from '../handover.ts';
import { tapName } from '../tap-name.ts';
import type { Nic } from './cni-call.ts';
import { type CniDns, firstDns, guestDns } from './cni-dns.ts';
import { deriveMac } from './guest-mac.ts';
import { ipFamily, maxPrefix, networkOf } from './ip-address.ts';
import type { IpamResult, IpamRoute } from './ipam.ts';
import type { NetworkConfig } from './network-config.ts';

/** Everything about one NIC, before anything is made. */
export interface NicPlan {
  readonly handover: StoredHandover;
  /** As the runtime is told; the guest's are the same ones. */
  readonly routes: readonly IpamRoute[];
  readonly dns: CniDns;
}

const DEFAULT_ROUTE = { 4: '0.0.0.0/0', 6: '::/0' } as const;

/**
 * What the node answers to as the gateway of a routed guest. IPv4: IPAM's own where it has one, by proxy ARP. IPv6: a
 * link-local address, since router advertisements can name no other (RFC 4861, 4.2).
 */
const ROUTED_GATEWAY = { 4: '169.254.1.1', 6: 'fe80::1' } as const;

/** @param mtu in bytes. */
export function planNic(
  config: NetworkConfig,
  nic: Nic,
  { ipam, lease }: { readonly ipam: IpamResult; readonly lease: Lease },
  mtu: number,
): NicPlan {
  const addresses = planAddresses(config, ipam);
  const routes = planRoutes(config, nic, ipam, addresses);
  const dns = firstDns(config.dns, ipam.dns);
  return {
    handover: {
      version: 1,
      network: config.name,
      sandboxId: nic.sandboxId,
      netns: nic.netns,
      tap: tapName(nic.owner, nic.ifName),
      attachment: config.attachment,
      bandwidth: config.bandwidth,
      guest: {
        ifName: nic.ifName,
        mac: chooseMac(config, nic),
        mtu,
        addresses,
        routes: routes.map(({ dst, gw }) => ({ destination: dst, gateway: gw })),
        dns: guestDns(dns),
      },
      lease,
    },
    routes,
    dns,
  };
}

/** What was asked for this NIC; then what the pod asks for its first one; then what is always the same. */
function chooseMac(config: NetworkConfig, { mac, owner, ifName }: Nic): string {
  const ofPod = ifName === 'eth0' ? config.podMac : undefined;
  return config.mac ?? mac ?? ofPod ?? deriveMac(owner, ifName);
}

function planAddresses({ attachment }: NetworkConfig, { ips }: IpamResult): GuestAddress[] {
  return ips.map(({ prefix: { address, prefixLength }, gateway }) =>
    attachment.kind === 'routed'
      ? { address, prefixLength: maxPrefix(address), gateway: routedGateway(address, gateway) }
      : { address, prefixLength, gateway },
  );
}

/**
 * IPAM's, with the gateway filled in where there is one; a default route for every family whose gateway is known, if
 * IPAM has none; and for a routed guest's further NICs one to their network, since the default may be another's.
 */
function planRoutes(
  { attachment, isDefaultGateway }: NetworkConfig,
  { ifName }: Nic,
  ipam: IpamResult,
  addresses: readonly GuestAddress[],
): IpamRoute[] {
  const routed = attachment.kind === 'routed';
  const gatewayOf = (family: 4 | 6): string | undefined =>
    addresses.find(({ address, gateway }) => gateway !== undefined && ipFamily(address) === family)?.gateway;
  const routes = ipam.routes.map((route) => {
    const gateway = gatewayOf(ipFamily(route.dst));
    return { ...route, gw: routed ? gateway : (route.gw ?? gateway) };
  });
  // A pod's further NICs must not take its traffic from the first one.
  const wantsDefault = isDefaultGateway ?? ifName === 'eth0';
  for (const family of [4, 6] as const) {
    const gw = gatewayOf(family);
    if (gw === undefined) continue;
    if (routed && ifName !== 'eth0') {
      const own = ipam.ips.map(({ prefix }) => prefix).filter(({ address }) => ipFamily(address) === family);
      const networks = new Set(own.map(networkOf));
      routes.push(...[...networks].map((network) => ({ dst: network, gw, rest: {} })));
    }
    const dst = DEFAULT_ROUTE[family];
    if (wantsDefault && !routes.some((route) => route.dst === dst)) routes.push({ dst, gw, rest: {} });
  }
  return routes;
}

function routedGateway(address: string, gateway: string | undefined): string {
  const family = ipFamily(address);
  return family === 4 && gateway !== undefined ? gateway : ROUTED_GATEWAY[family];
}
