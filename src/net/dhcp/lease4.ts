import type { GuestInterface } from '../guest-network.ts';
import {
  hostRoute,
  type InterfaceRoute,
  isDefault,
  isOnLink,
  planFamily,
  type FamilyPlan,
} from './interface-routes.ts';
import { sameBytes } from './ip-bytes.ts';

/** The one IPv4 lease there is. */
export interface Lease4 {
  readonly address: Uint8Array;
  readonly prefixLength: number;
  readonly serverId: Uint8Array;
  readonly router: Uint8Array | undefined;
  /** In the order in which a client can install them; empty when `router` says it all. */
  readonly classlessRoutes: readonly InterfaceRoute[];
  readonly nameservers: readonly Uint8Array[];
  /** Where the gateway is the node's end of the TAP: the gateways' addresses and the one MAC address they have. */
  readonly node: { readonly mac: Uint8Array; readonly addresses: readonly Uint8Array[] } | undefined;
}

/** Of the part of 169.254/16 that no host ever takes by itself (RFC 3927, section 2.1). */
const SERVER_ID_WITHOUT_GATEWAY = Uint8Array.of(169, 254, 0, 67);

/**
 * DHCPv4 gives one address: the first. Undefined when the interface has none.
 *
 * The server identifier is where a client sends its renewals to, after it has asked by ARP who has it or who the gateway
 * on the way is. It is therefore the gateway's address: the gateway answers the ARP request, the renewal passes our
 * socket on its way there, and we answer. An interface without any gateway gets an address that nobody has: the client
 * cannot reach it, and goes on to ask everybody by broadcast (REBINDING, RFC 2131 §4.4.5). Clients that believe in our
 * infinite lease time do neither.
 */
export function planLease4(
  guest: GuestInterface,
  nameservers: readonly Uint8Array[],
  nodeMac: Uint8Array | undefined,
): Lease4 | undefined {
  const plan = planFamily(guest, 4);
  const [first] = plan.addresses;
  if (first === undefined) return undefined;
  const router = plan.routes.find(isDefault)?.gateway;
  const gateway = router ?? plan.routes.find((route) => route.gateway !== undefined)?.gateway;
  return {
    address: first.address,
    prefixLength: first.subnet.length,
    serverId:
      gateway === undefined || sameBytes(gateway, first.address) ? SERVER_ID_WITHOUT_GATEWAY : gateway,
    router,
    classlessRoutes: planClasslessRoutes({ addresses: [first], routes: plan.routes }),
    nameservers,
    node: nodeMac === undefined ? undefined : { mac: nodeMac, addresses: gatewaysOf(plan) },
  };
}

function gatewaysOf({ routes }: FamilyPlan): readonly Uint8Array[] {
  const gateways = routes.flatMap(({ gateway }) => (gateway === undefined ? [] : [gateway]));
  return gateways.filter((gateway, i) => gateways.findIndex((other) => sameBytes(other, gateway)) === i);
}

// A client that takes option 121 ignores the router option, so the default route is in here too (RFC 3442).
function planClasslessRoutes(plan: FamilyPlan): readonly InterfaceRoute[] {
  const offLink = gatewaysOf(plan).filter((gateway) => !isOnLink(plan, gateway));
  const [only] = plan.routes;
  const routerSaysItAll =
    only === undefined ||
    (plan.routes.length === 1 && isDefault(only) && only.gateway !== undefined && offLink.length === 0);
  if (routerSaysItAll) return [];
  const onLink = plan.routes.filter(({ gateway }) => gateway === undefined);
  return [
    ...onLink,
    ...offLink.map(hostRoute),
    ...plan.routes.filter(({ gateway }) => gateway !== undefined),
  ];
}
