import type { Router6 } from '../../../../src/net/dhcp/lease6.ts';
import type { GuestInterface } from '../../../../src/net/guest-network.ts';
import { GUEST_MAC } from './wire.ts';

/** As of a bridge: one subnet, the default route by a gateway in it. */
export const bridged: GuestInterface = {
  ifName: 'eth0',
  mac: GUEST_MAC,
  mtu: 1450,
  addresses: [
    { address: '10.1.2.3', prefixLength: 24, gateway: '10.1.2.1' },
    { address: 'fd00:1::5', prefixLength: 64, gateway: 'fd00:1::1' },
  ],
  routes: [
    { destination: '0.0.0.0/0', gateway: '10.1.2.1' },
    { destination: '::/0', gateway: 'fd00:1::1' },
  ],
  dns: {
    nameservers: ['10.96.0.10', 'fd00:96::a', '10.96.0.11'],
    search: ['default.svc.cluster.local', 'svc.cluster.local', 'cluster.local'],
  },
};

/** As of a routed network: no neighbours, link-local gateways outside every subnet. */
export const routed: GuestInterface = {
  ...bridged,
  addresses: [
    { address: '10.1.2.3', prefixLength: 32, gateway: '169.254.1.1' },
    { address: 'fd00:1::5', prefixLength: 128, gateway: 'fe80::1' },
  ],
  routes: [
    { destination: '0.0.0.0/0', gateway: '169.254.1.1' },
    { destination: '10.99.0.0/17', gateway: '169.254.1.1' },
    { destination: '::/0', gateway: 'fe80::1' },
    { destination: 'fd00:9::/48', gateway: 'fe80::1' },
  ],
};

/** What is known of an IPv6 gateway with a global address: it is on the link. */
export const neighbour: Router6 = {
  kind: 'neighbor',
  link: { ifName: 'eth9', netns: undefined, asker: 'nobody' },
};
