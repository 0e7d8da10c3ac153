import type { GuestInterface } from '../guest-network.ts';
import { type InterfaceRoute, isDefault, planFamily } from './interface-routes.ts';
import { isLinkLocalIpv6, linkLocalOf, type Prefix, sameBytes } from './ip-bytes.ts';

/**
 * Where the IPv6 gateway is, when it has a global address only. Router advertisements can name no such (RFC 4861, section
 * 4.2), so we make up a link-local address and find out who has it when the guest asks.
 */
export type Router6 =
  /** On this link of the node itself, a bridge; whose MAC address may change with its ports. */
  | { readonly kind: 'node'; readonly ifName: string }
  | { readonly kind: 'neighbor'; readonly link: GatewayLink };

/** A link of the network behind the TAP. */
export interface GatewayLink {
  readonly ifName: string;
  /** Path of its network namespace; ours when undefined. */
  readonly netns: string | undefined;
  /**
   * `guest`: the link takes in what is sent to the guest's MAC address, so the question can come from the guest's address.
   * `nobody`: it does not, as a bridge that has a port with that address; a question from no address, as duplicate address
   * detection asks it (RFC 4862, section 5.4), is answered to all.
   */
  readonly asker: 'guest' | 'nobody';
}

/** The one IPv6 lease there is, and what the router advertisement says beside it. */
export interface Lease6 {
  readonly addresses: readonly Uint8Array[];
  /** Our own link-local address, from which DHCPv6 answers come. */
  readonly serverAddress: Uint8Array;
  /** DHCPv6's server identifier: a DUID-LL (RFC 8415, section 11.4). */
  readonly duid: Uint8Array;
  /** Link-local address that router advertisements come from, which makes it the next hop of all routes. */
  readonly routerAddress: Uint8Array;
  /** Where `routerAddress` is made up: the address of the gateway that stands behind it. */
  readonly gateway: Uint8Array | undefined;
  readonly isDefaultRouter: boolean;
  readonly onLink: readonly Prefix[];
  readonly routes: readonly Prefix[];
  readonly nameservers: readonly Uint8Array[];
}

/** Of 32 and 24 bytes: two times so many leave room in the smallest packet. */
const MAX_PREFIXES = 16;

/** @param omissions gets a sentence for each thing that the guest will not learn */
export function planLease6(
  guest: GuestInterface,
  nameservers: readonly Uint8Array[],
  serverMac: Uint8Array,
  router: Router6 | undefined,
  omissions: string[],
): Lease6 | undefined {
  const plan = planFamily(guest, 16);
  if (plan.addresses.length === 0) return undefined;
  const serverAddress = linkLocalOf(serverMac);
  const isPrimary = primaryGateway(plan.routes);
  const gateway = plan.routes.find(isPrimary)?.gateway;
  const known = gateway === undefined ? undefined : routerOf(gateway, serverAddress, router);

  const lost = plan.routes.filter(
    (route) => route.gateway !== undefined && (known === undefined || !isPrimary(route)),
  );
  if (lost.length > 0) {
    omissions.push(
      `${lost.length} IPv6 route(s) of ${guest.ifName} are not in the router advertisement: ` +
        (known === undefined
          ? 'no link-local address of the gateway is known, nor a link to ask for it'
          : 'they go by another gateway than the rest'),
    );
  }
  const advertised = unique(plan.routes.map(({ destination }) => destination)).length + plan.addresses.length;
  if (advertised > MAX_PREFIXES) {
    omissions.push(
      `${guest.ifName} has ${advertised} IPv6 addresses and routes, of which at most ${MAX_PREFIXES} on-link prefixes ` +
        `and ${MAX_PREFIXES} routes fit into a router advertisement`,
    );
  }
  const subnets = plan.addresses.map(({ subnet }) => subnet).filter(({ length }) => length < 128);
  const onLinkRoutes = plan.routes
    .filter(
      (route) => route.gateway === undefined && !isDefault(route) && isAdvertised(route.destination.network),
    )
    .map(({ destination }) => destination);
  const carried = plan.routes.filter((route) => known !== undefined && isPrimary(route));
  return {
    addresses: plan.addresses.map(({ address }) => address),
    serverAddress,
    duid: Uint8Array.of(0, 3, 0, 1, ...serverMac),
    routerAddress: known?.address ?? serverAddress,
    gateway: known?.gateway,
    isDefaultRouter: carried.some(isDefault),
    onLink: unique([...subnets, ...onLinkRoutes]).slice(0, MAX_PREFIXES),
    routes: unique(carried.filter((route) => !isDefault(route)).map(({ destination }) => destination)).slice(
      0,
      MAX_PREFIXES,
    ),
    nameservers,
  };
}

/** Routes by the gateway of the default route, or of the first route that has one. */
function primaryGateway(routes: readonly InterfaceRoute[]): (route: InterfaceRoute) => boolean {
  const primary = (
    routes.find((route) => isDefault(route) && route.gateway !== undefined) ??
    routes.find(({ gateway }) => gateway !== undefined)
  )?.gateway;
  return ({ gateway }) => gateway !== undefined && primary !== undefined && sameBytes(gateway, primary);
}

function routerOf(
  gateway: Uint8Array,
  serverAddress: Uint8Array,
  router: Router6 | undefined,
): { address: Uint8Array; gateway: Uint8Array | undefined } | undefined {
  if (isLinkLocalIpv6(gateway)) return { address: gateway, gateway: undefined };
  return router === undefined ? undefined : { address: serverAddress, gateway };
}

/** Every host has routes to link-local and multicast addresses by itself, and ignores them here (RFC 4861, section 5.5.3). */
const isAdvertised = (network: Uint8Array): boolean => !isLinkLocalIpv6(network) && network[0] !== 0xff;

function unique(prefixes: readonly Prefix[]): readonly Prefix[] {
  return prefixes.filter(
    (one, i) =>
      prefixes.findIndex((other) => other.length === one.length && sameBytes(other.network, one.network)) ===
      i,
  );
}
