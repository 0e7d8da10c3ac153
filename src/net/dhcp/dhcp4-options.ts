import {
  DHCP4_OVERHEAD,
  Dhcp4Option,
  type Dhcp4Request,
  encodeOption,
  type OptionBytes,
} from './dhcp4-message.ts';
import { encodeFittingDomainNames } from './domain-names.ts';
import type { GuestLease } from './guest-lease.ts';
import type { InterfaceRoute } from './interface-routes.ts';
import { ipv4Mask } from './ip-bytes.ts';
import type { Lease4 } from './lease4.ts';

/** What every client takes without having said so (RFC 2131, section 2), as an IP packet with its headers. */
const SMALLEST_MAX_PACKET = 576;
const IP_AND_UDP = 28;

/**
 * The configuration that goes into offers and acknowledgements, the most needed first. All of it, whatever the client asks
 * for: clients ignore what they do not know, and some need what they do not ask for. When it does not fit into the packet
 * that the client takes, search domains are left out from the end, then whole options.
 *
 * @param beside the other options of the answer
 */
export function configurationOptions(
  lease: GuestLease,
  v4: Lease4,
  request: Dhcp4Request,
  beside: readonly OptionBytes[],
): readonly OptionBytes[] {
  const essential = [
    option(Dhcp4Option.SUBNET_MASK, ipv4Mask(v4.prefixLength)),
    ...(v4.router === undefined ? [] : [option(Dhcp4Option.ROUTER, v4.router)]),
    ...routesOption(v4, request),
    ...(v4.nameservers.length === 0
      ? []
      : [
          option(
            Dhcp4Option.DOMAIN_NAME_SERVER,
            Uint8Array.from(v4.nameservers.flatMap((address) => [...address])),
          ),
        ]),
    option(Dhcp4Option.INTERFACE_MTU, Uint8Array.of(lease.mtu >> 8, lease.mtu & 0xff)),
    ...textOption(Dhcp4Option.HOST_NAME, lease.hostname),
    ...textOption(Dhcp4Option.DOMAIN_NAME, lease.search[0]),
  ];
  const fitting: OptionBytes[] = [];
  let left = maxMessage(lease, request) - DHCP4_OVERHEAD - Buffer.concat(beside.map(encodeOption)).length;
  for (const one of essential) {
    const length = encodeOption(one).length;
    if (length > left) continue;
    fitting.push(one);
    left -= length;
  }
  return [...fitting, ...searchOption(lease.search, left)];
}

function maxMessage(lease: GuestLease, request: Dhcp4Request): number {
  const [high = 0, low = 0] = request.options.get(Dhcp4Option.MAX_MESSAGE_SIZE) ?? [];
  return Math.max(SMALLEST_MAX_PACKET, Math.min((high << 8) | low, lease.mtu)) - IP_AND_UDP;
}

function routesOption(v4: Lease4, request: Dhcp4Request): OptionBytes[] {
  if (v4.classlessRoutes.length === 0) return [];
  const asked = request.options.get(Dhcp4Option.PARAMETER_REQUEST_LIST) ?? new Uint8Array();
  const microsoftOnly =
    asked.includes(Dhcp4Option.CLASSLESS_ROUTES_MICROSOFT) && !asked.includes(Dhcp4Option.CLASSLESS_ROUTES);
  const code = microsoftOnly ? Dhcp4Option.CLASSLESS_ROUTES_MICROSOFT : Dhcp4Option.CLASSLESS_ROUTES;
  return [option(code, encodeClasslessRoutes(v4.classlessRoutes))];
}

/** RFC 3442: prefix length, as many bytes of the network as it covers, gateway; 0.0.0.0 is the link itself. */
export function encodeClasslessRoutes(routes: readonly InterfaceRoute[]): Uint8Array {
  return Uint8Array.from(
    routes.flatMap(({ destination, gateway }) => [
      destination.length,
      ...destination.network.subarray(0, Math.ceil(destination.length / 8)),
      ...(gateway ?? [0, 0, 0, 0]),
    ]),
  );
}

function searchOption(search: readonly string[], room: number): OptionBytes[] {
  // Each 255 bytes cost two more.
  const names = encodeFittingDomainNames(search, 'compressed', room - 2 * Math.ceil(room / 255));
  return names.length === 0 ? [] : [option(Dhcp4Option.DOMAIN_SEARCH, names)];
}

function textOption(code: number, text: string | undefined): OptionBytes[] {
  return text === undefined || text === ''
    ? []
    : [option(code, Buffer.from(text.replace(/\.$/, ''), 'latin1'))];
}

function option(code: number, bytes: Uint8Array): OptionBytes {
  return { code, bytes };
}
