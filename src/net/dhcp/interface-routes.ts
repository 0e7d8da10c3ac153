import { VmError } from '../../core/errors.ts';
import type { GuestInterface } from '../guest-network.ts';
import { contains, isUnspecified, parseCidr, parseIp, type Prefix, prefixOf, sameBytes } from './ip-bytes.ts';

/** What one address family of an interface has, parsed. */
export interface FamilyPlan {
  readonly addresses: readonly InterfaceAddress[];
  /** On-link ones first. */
  readonly routes: readonly InterfaceRoute[];
}

export interface InterfaceAddress {
  readonly address: Uint8Array;
  readonly subnet: Prefix;
}

export interface InterfaceRoute {
  readonly destination: Prefix;
  /** Undefined for what is on the link itself. */
  readonly gateway: Uint8Array | undefined;
}

/**
 * The addresses and routes of one family (4 or 16 bytes). A route without gateway goes by the gateway of the first address
 * that has one, as in a CNI result, except the route to that gateway alone; without any gateway, or with the gateway
 * 0.0.0.0 or ::, it is on-link. Throws InvalidArgument that names the field.
 */
export function planFamily(guest: GuestInterface, bytes: 4 | 16): FamilyPlan {
  const unusable = (field: string, value: string): VmError =>
    new VmError(
      'InvalidArgument',
      `${field} of the guest’s interface ${guest.ifName} is ${JSON.stringify(value)}, which is no IP ${field.endsWith('destination') ? 'network' : 'address'} that fits`,
    );
  const gatewayOf = (field: string, text: string | undefined, family: number): Uint8Array | undefined => {
    if (text === undefined) return undefined;
    const gateway = parseIp(text);
    if (gateway?.length !== family) throw unusable(field, text);
    return gateway;
  };

  const addresses = guest.addresses.map(({ address: text, prefixLength, gateway }) => {
    const address = parseIp(text);
    const prefix = parseCidr(`${text}/${prefixLength}`);
    if (address === undefined || prefix === undefined)
      throw unusable('addresses.address', `${text}/${prefixLength}`);
    return { address, subnet: prefix, gateway: gatewayOf('addresses.gateway', gateway, address.length) };
  });
  const routes = guest.routes.map(({ destination: text, gateway }) => {
    const destination = parseCidr(text);
    if (destination === undefined) throw unusable('routes.destination', text);
    return { destination, gateway: gatewayOf('routes.gateway', gateway, destination.network.length) };
  });

  const ours = addresses.filter(({ address }) => address.length === bytes);
  const usual = ours.find(({ gateway }) => gateway !== undefined)?.gateway;
  const resolved = routes
    .filter(({ destination }) => destination.network.length === bytes)
    .map(({ destination, gateway = usual }) => ({
      destination,
      gateway: onLinkIsUndefined(destination, gateway),
    }));
  return {
    addresses: ours.map(({ address, subnet }) => ({ address, subnet })),
    routes: [
      ...resolved.filter(({ gateway }) => gateway === undefined),
      ...resolved.filter(({ gateway }) => gateway !== undefined),
    ],
  };
}

export const isDefault = (route: InterfaceRoute): boolean => route.destination.length === 0;

/** True when the guest can ask for the gateway's MAC address without a further route. */
export function isOnLink(plan: FamilyPlan, gateway: Uint8Array): boolean {
  return (
    plan.addresses.some(({ subnet }) => contains(subnet, gateway)) ||
    plan.routes.some((route) => route.gateway === undefined && contains(route.destination, gateway))
  );
}

export function hostRoute(address: Uint8Array): InterfaceRoute {
  return { destination: prefixOf(address, address.length * 8), gateway: undefined };
}

function onLinkIsUndefined(destination: Prefix, gateway: Uint8Array | undefined): Uint8Array | undefined {
  if (gateway === undefined || isUnspecified(gateway)) return undefined;
  const toItself = destination.length === gateway.length * 8 && sameBytes(destination.network, gateway);
  return toItself ? undefined : gateway;
}
