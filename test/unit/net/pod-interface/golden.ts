import type { GuestInterface } from '../../../../src/net/guest-network.ts';
import type { IpLink, IpRoute } from '../../../../src/net/pod-interface.ts';

/** What `ip -details -json` shows in pods (less what nobody reads), and what is to be made of it. */
interface Golden {
  readonly name: string;
  readonly links: readonly IpLink[];
  readonly routes4: readonly IpRoute[];
  readonly routes6: readonly IpRoute[];
  readonly expected: readonly GuestInterface[];
}

const dns = { nameservers: [], search: [] };

const lo: IpLink = {
  ifindex: 1,
  ifname: 'lo',
  flags: ['LOOPBACK', 'UP', 'LOWER_UP'],
  mtu: 65536,
  link_type: 'loopback',
  address: '00:00:00:00:00:00',
  addr_info: [{ local: '127.0.0.1', prefixlen: 8, scope: 'host' }],
};

function veth(
  ifindex: number,
  ifname: string,
  mtu: number,
  address: string,
  addr_info: IpLink['addr_info'],
): IpLink {
  const flags = ['BROADCAST', 'MULTICAST', 'UP', 'LOWER_UP'];
  return {
    ifindex,
    ifname,
    flags,
    mtu,
    link_type: 'ether',
    address,
    linkinfo: { info_kind: 'veth' },
    addr_info,
  };
}

const linkLocal = (local: string): IpLink['addr_info'][number] => ({ local, prefixlen: 64, scope: 'link' });
const global = (local: string, prefixlen: number): IpLink['addr_info'][number] => ({
  ...{ local, prefixlen, scope: 'global' },
});
const main = (dst: string, dev: string, more: Partial<IpRoute> = {}): IpRoute => ({
  ...{ type: 'unicast', dst, dev, table: 'main' },
  ...more,
});

export const bridgePod: Golden = {
  name: 'bridge, dual stack',
  links: [
    lo,
    veth(3, 'eth0', 1450, '7E:09:1a:00:00:01', [
      global('10.244.1.7', 24),
      global('fd00:244:1::7', 64),
      linkLocal('fe80::7c09:1aff:fe00:1'),
    ]),
  ],
  routes4: [
    main('default', 'eth0', { gateway: '10.244.1.1' }),
    main('10.244.1.0/24', 'eth0'),
    { type: 'local', dst: '10.244.1.7', dev: 'eth0', table: 'local' },
    { type: 'broadcast', dst: '10.244.1.255', dev: 'eth0', table: 'local' },
  ],
  routes6: [
    main('fd00:244:1::/64', 'eth0'),
    main('fe80::/64', 'eth0'),
    main('default', 'eth0', { gateway: 'fd00:244:1::1' }),
    { type: 'multicast', dst: 'ff00::/8', dev: 'eth0', table: 'local' },
  ],
  expected: [
    {
      ifName: 'eth0',
      mac: '7e:09:1a:00:00:01',
      mtu: 1450,
      addresses: [
        { address: '10.244.1.7', prefixLength: 24, gateway: '10.244.1.1' },
        { address: 'fd00:244:1::7', prefixLength: 64, gateway: 'fd00:244:1::1' },
      ],
      routes: [
        { destination: '0.0.0.0/0', gateway: '10.244.1.1' },
        { destination: '::/0', gateway: 'fd00:244:1::1' },
      ],
      dns,
    },
  ],
};

export const calicoPod: Golden = {
  name: 'calico: the gateway is outside every network',
  links: [
    lo,
    veth(3, 'eth0', 1480, 'ce:74:11:00:00:02', [
      global('192.168.44.9', 32),
      global('fd00:44::9', 128),
      linkLocal('fe80::cc74:11ff:fe00:2'),
    ]),
  ],
  routes4: [main('default', 'eth0', { gateway: '169.254.1.1' }), main('169.254.1.1', 'eth0')],
  routes6: [
    main('fd00:44::9', 'eth0'),
    main('fe80::/64', 'eth0'),
    main('default', 'eth0', { gateway: 'fe80::ecee:eeff:feee:eeee' }),
  ],
  expected: [
    {
      ifName: 'eth0',
      mac: 'ce:74:11:00:00:02',
      mtu: 1480,
      addresses: [
        { address: '192.168.44.9', prefixLength: 32, gateway: '169.254.1.1' },
        { address: 'fd00:44::9', prefixLength: 128, gateway: 'fe80::ecee:eeff:feee:eeee' },
      ],
      routes: [
        { destination: '169.254.1.1/32', gateway: undefined },
        { destination: '0.0.0.0/0', gateway: '169.254.1.1' },
        { destination: '::/0', gateway: 'fe80::ecee:eeff:feee:eeee' },
      ],
      dns,
    },
  ],
};

export const ciliumPod: Golden = {
  name: 'cilium: the route knows a smaller MTU',
  links: [lo, veth(9, 'eth0', 1500, '5a:10:22:00:00:03', [global('10.0.1.66', 32)])],
  routes4: [
    main('default', 'eth0', { gateway: '10.0.1.20', metrics: [{ mtu: 1450 }] }),
    main('10.0.1.20', 'eth0'),
  ],
  routes6: [],
  expected: [
    {
      ifName: 'eth0',
      mac: '5a:10:22:00:00:03',
      mtu: 1450,
      addresses: [{ address: '10.0.1.66', prefixLength: 32, gateway: '10.0.1.20' }],
      routes: [
        { destination: '10.0.1.20/32', gateway: undefined },
        { destination: '0.0.0.0/0', gateway: '10.0.1.20' },
      ],
      dns,
    },
  ],
};

export const multusPod: Golden = {
  name: 'two networks, the second without addresses of its own',
  links: [
    lo,
    veth(4, 'net1', 9000, '02:11:00:00:00:04', []),
    veth(7, 'eth0', 1500, '02:11:00:00:00:05', [global('10.1.1.2', 24)]),
    { ...veth(8, 'vt1', 1500, '02:11:00:00:00:06', []), linkinfo: { info_kind: 'tun' } },
  ],
  // ptp leaves its network behind the gateway.
  routes4: [
    main('default', 'eth0', { gateway: '10.1.1.1' }),
    main('10.1.1.0/24', 'eth0', { gateway: '10.1.1.1' }),
    main('10.1.1.1', 'eth0'),
  ],
  routes6: [],
  expected: [
    {
      ifName: 'eth0',
      mac: '02:11:00:00:00:05',
      mtu: 1500,
      addresses: [{ address: '10.1.1.2', prefixLength: 32, gateway: '10.1.1.1' }],
      routes: [
        { destination: '10.1.1.1/32', gateway: undefined },
        { destination: '0.0.0.0/0', gateway: '10.1.1.1' },
        { destination: '10.1.1.0/24', gateway: '10.1.1.1' },
      ],
      dns,
    },
    { ifName: 'net1', mac: '02:11:00:00:00:04', mtu: 9000, addresses: [], routes: [], dns },
  ],
};
