import type { Attached } from './cri-pod.ts';

/** What the guest of a pod has to do for its addresses. */
export interface GuestAddressing {
  /** Prefix lengths, IPv4 and IPv6. */
  readonly prefixes: readonly [number, number];
  readonly router: string;
  /** What the guest's DHCP client, which is a simple one, leaves to do for a gateway that is not on its network. */
  readonly routes: string;
}

/** Of a guest on a bridge of `POD_NETWORK`, by a TAP or beside a veth. */
export const BRIDGED_GUEST = {
  prefixes: [24, 64],
  router: '10.88.0.1',
  routes: 'ip -6 route replace default via fd00:88:0:1::1 dev eth0',
} as const;

/** Of a guest in mode `routed` with addresses of `ROUTED_NETWORK`. */
export const ROUTED_GUEST = {
  prefixes: [32, 128],
  router: '10.89.0.1',
  routes: [
    'ip route add 10.89.0.1 dev eth0',
    'ip route add default via 10.89.0.1',
    'ip -6 route replace default via fe80::1 dev eth0',
  ].join(' && '),
} as const;

export const ROUTED_NETWORK = { prefix4: '10.89.0', prefix6: 'fd00:89:0:1' } as const;

/** Asks for the IPv4 address by DHCP, and takes the IPv6 one, for which the test guest has no client. Gives the MAC. */
export async function takeAddresses(
  console: Attached,
  [ip4 = '', ip6 = '']: readonly string[],
  { prefixes, router, routes }: GuestAddressing,
): Promise<string> {
  await console.ask('dhcp', new RegExp(`dhcp eth0 ${ip4}/${prefixes[0]} router=${router}`));
  // Without duplicate address detection the address is there at once.
  const dad = 'echo 0 >/proc/sys/net/ipv6/conf/eth0/dad_transmits';
  await console.ask(
    `${dad} && ip -6 addr add ${ip6}/${prefixes[1]} dev eth0 && ${routes} && echo "routes $((6))"`,
    /routes 6/,
  );
  return (await console.ask('cat /sys/class/net/eth0/address', /([0-9a-f]{2}:){5}[0-9a-f]{2}/))[0];
}
