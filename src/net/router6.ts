import type { Host } from '../host/host.ts';
import { canonicalIp } from './cni/ip-address.ts';
import type { GatewayLink, Router6 } from './dhcp/lease6.ts';
import type { GuestInterface, TapAttachment } from './guest-network.ts';

/** Where a guest's card joins its network. */
export type NicPlace =
  | { readonly kind: 'tap'; readonly attachment: TapAttachment }
  | { readonly kind: 'netns'; readonly netns: string };

/**
 * How a guest gets to its IPv6 gateway if that has a global address only, which no router advertisement can name.
 * It is the node itself, on the bridge, or a neighbour there. The bridge's own link-local address would not do: it has none
 * before it has its first port. Undefined where the gateway is link-local, or there is none.
 */
export function findRouter6(host: Host, place: NicPlace, guest: GuestInterface): Router6 | undefined {
  const routes = guest.routes.filter(({ destination }) => destination.includes(':'));
  const { gateway } =
    routes.find((route) => route.destination === '::/0' && route.gateway !== undefined) ??
    routes.find((route) => route.gateway !== undefined) ??
    {};
  if (gateway === undefined || isLinkLocal(gateway)) return undefined;
  if (place.kind === 'netns') return neighbor({ ifName: guest.ifName, netns: place.netns, asker: 'guest' });
  const { attachment } = place;
  if (attachment.kind === 'routed') return undefined;
  const { bridge } = attachment;
  const own = readAddresses(host).some(
    ({ ifName, address }) => ifName === bridge && address === canonicalIp(gateway),
  );
  return own
    ? { kind: 'node', ifName: bridge }
    : neighbor({ ifName: bridge, netns: undefined, asker: 'nobody' });
}

function neighbor(link: GatewayLink): Router6 {
  return { kind: 'neighbor', link };
}

interface OwnAddress {
  readonly ifName: string;
  readonly address: string;
}

/** The IPv6 addresses of the namespace we are in, by the kernel's list, whose first column has them in plain hex. */
function readAddresses(host: Host): OwnAddress[] {
  const path = '/proc/net/if_inet6';
  if (host.inspect(path) === undefined) return [];
  return host
    .readText(path)
    .split('\n')
    .flatMap((line) => {
      const [hex = '', , , , , ifName = ''] = line.trim().split(/\s+/);
      const address = canonicalIp((hex.match(/.{4}/g) ?? []).join(':'));
      return address === undefined ? [] : [{ ifName, address }];
    });
}

function isLinkLocal(address: string): boolean {
  return /^fe[89ab]/i.test(address);
}
