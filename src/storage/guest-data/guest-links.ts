import type { GuestNetworkSource } from '../../core/guest-data-spec.ts';
import type { GuestNic } from './guest-data.ts';
import {
  contains,
  familyOf,
  type IpNetwork,
  isLinkLocal,
  networkOf,
  parseCidr,
  sameNetwork,
} from './ip-network.ts';

/** One card and how each family of addresses reaches it, before it is written in one of the formats. */
export interface GuestLink {
  /** The pod's name for it. */
  readonly name: string;
  readonly mac: string;
  readonly mtu: number | undefined;
  readonly v4: FamilySetting;
  readonly v6: FamilySetting;
  readonly nameservers: readonly string[];
  readonly search: readonly string[];
}

export type FamilySetting =
  | { readonly kind: 'none' }
  | { readonly kind: 'dhcp' }
  | {
      readonly kind: 'static';
      readonly addresses: readonly { readonly address: string; readonly subnet: IpNetwork }[];
      /** Every gateway is within one of the subnets, or link-local. */
      readonly routes: readonly { readonly destination: IpNetwork; readonly gateway: string }[];
    };

/**
 * What the drive says of each card. Neither OpenStack's network_data.json nor cloud-init's renderers of 2022 can say that a
 * gateway outside of the subnet (the /32 of routed networks) is on the link, nor can they hold a route without a gateway:
 * such a family is left to DHCP, which has the option for it (RFC 3442) and is answered by the shim.
 */
export function planGuestLinks(nics: readonly GuestNic[], source: GuestNetworkSource): GuestLink[] {
  return nics.map((nic) => ({
    name: nic.ifName,
    mac: nic.mac,
    mtu: nic.mtu,
    v4: planFamily(nic, 4, source),
    v6: planFamily(nic, 6, source),
    nameservers: nic.dns.nameservers,
    search: nic.dns.search,
  }));
}

function planFamily(nic: GuestNic, family: 4 | 6, source: GuestNetworkSource): FamilySetting {
  // A card nobody knows an address of is on a network that gives one: QEMU's own.
  if (nic.addresses.length === 0) return family === 4 ? { kind: 'dhcp' } : { kind: 'none' };
  const own = nic.addresses.filter(({ address }) => familyOf(address) === family);
  if (own.length === 0) return { kind: 'none' };
  if (source === 'dhcp') return { kind: 'dhcp' };

  const addresses = own.map(({ address, prefixLength }) => ({
    address,
    subnet: networkOf(address, prefixLength),
  }));
  const routes = familyRoutes(nic, family).filter(
    // What the addresses say already.
    ({ destination, gateway }) =>
      gateway !== undefined || !addresses.some(({ subnet }) => sameNetwork(subnet, destination)),
  );
  const reachable = (gateway: string): boolean =>
    isLinkLocal(gateway) || addresses.some(({ subnet }) => contains(subnet, gateway));
  const written = routes.flatMap(({ destination, gateway }) =>
    gateway !== undefined && reachable(gateway) ? [{ destination, gateway }] : [],
  );
  return written.length === routes.length ? { kind: 'static', addresses, routes: written } : { kind: 'dhcp' };
}

interface Route {
  readonly destination: IpNetwork;
  readonly gateway: string | undefined;
}

/** A default gateway may stand at the address only. */
function familyRoutes(nic: GuestNic, family: 4 | 6): Route[] {
  const unspecified = family === 4 ? '0.0.0.0' : '::';
  const routes: Route[] = nic.routes
    .map(({ destination, gateway }) => ({
      destination: parseCidr(destination),
      gateway: gateway === unspecified ? undefined : gateway,
    }))
    .filter(({ destination }) => destination.family === family);
  const gateway = nic.addresses.find(
    (address) => familyOf(address.address) === family && address.gateway !== undefined,
  )?.gateway;
  if (gateway === undefined || routes.some(({ destination }) => destination.prefixLength === 0))
    return routes;
  return [...routes, { destination: parseCidr(`${unspecified}/0`), gateway }];
}
