import { VmError } from '../../core/errors.ts';
import type { GuestInterface } from '../guest-network.ts';
import { contains, isUnspecified, parseCidr, parseIp, type Prefix, prefixOf } from './ip-bytes.ts';

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
 * The addresses and routes of one family (4 or 16 bytes). A route without gateway, or with the gateway 0.0.0.0 or ::, is
 * on-link. Throws InvalidArgument that names the field.
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
    return isUnspecified(gateway) ? undefined : gateway;
  };

  const addresses = guest.addresses.map(({ address: text, prefixLength }) => {
    const address = parseIp(text);
    const subnet = parseCidr(`${text}/${prefixLength}`);
    if (address === undefined || subnet === undefined) {
      throw unusable('addresses.address', `${text}/${prefixLength}`);
    }
    return { address, subnet };
  });
  const routes = guest.routes.map(({ destination: text, gateway }) => {
    const destination = parseCidr(text);
    if (destination === undefined) throw unusable('routes.destination', text);
    return { destination, gateway: gatewayOf('routes.gateway', gateway, destination.network.length) };
  });
  const ours = routes.filter(({ destination }) => destination.network.length === bytes);
  return {
    addresses: addresses.filter(({ address }) => address.length === bytes),
    routes: [
      ...ours.filter(({ gateway }) => gateway === undefined),
      ...ours.filter(({ gateway }) => gateway !== undefined),
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
