import t from 'tap';
import { type IpLink, type IpRoute, parsePodInterfaces } from '../../../../src/net/pod-interface.ts';
import { bridgePod, calicoPod, ciliumPod, multusPod } from './golden.ts';

void t.test('what CNI plugins leave in a pod', (t) => {
  for (const { name, links, routes4, routes6, expected } of [bridgePod, calicoPod, ciliumPod, multusPod]) {
    t.same(parsePodInterfaces(links, routes4, routes6), expected, name);
  }
  t.end();
});

const veth: IpLink = {
  ifindex: 2,
  ifname: 'eth0',
  flags: ['UP'],
  mtu: 1500,
  link_type: 'ether',
  address: '02:00:00:00:00:05',
  linkinfo: { info_kind: 'veth' },
  addr_info: [],
};

void t.test('links that are none of the guest’s are left out', (t) => {
  const others: IpLink[] = [
    { ...veth, ifname: 'lo', link_type: 'loopback' },
    { ...veth, ifname: 'down', flags: [] },
    ...['tun', 'bridge', 'dummy', 'ifb', 'gretap'].map((kind) => ({
      ...veth,
      ifname: kind,
      linkinfo: { info_kind: kind },
    })),
  ];
  t.same(parsePodInterfaces(others, [], []), []);
  const { linkinfo: _, ...card } = veth;
  t.equal(parsePodInterfaces([...others, card], [], []).length, 1, 'a real card is the guest’s');
  t.end();
});

void t.test('a link that a VM cannot use is an error', (t) => {
  const ipvlan = { ...veth, linkinfo: { info_kind: 'ipvlan' } };
  t.throws(() => parsePodInterfaces([ipvlan], [], []), {
    kind: 'FailedPrecondition',
    message: /eth0 .* kind ipvlan .*choose a CNI plugin/,
  });
  const l3 = { ...veth, flags: ['NOARP', 'UP'], linkinfo: { info_kind: 'netkit' } };
  t.throws(() => parsePodInterfaces([l3], [], []), { kind: 'FailedPrecondition', message: /netkit/ });
  t.equal(parsePodInterfaces([{ ...l3, flags: ['UP'] }], [], []).length, 1);
  t.end();
});

void t.test('routes that are not of the main table, or not to anywhere, do not count', (t) => {
  const routes: IpRoute[] = [
    { dst: 'default', gateway: '10.0.0.1', dev: 'eth0', table: '100' },
    { dst: '10.9.0.0/16', type: 'blackhole' },
    { dst: '10.8.0.0/16', type: 'local', dev: 'eth0', table: 'local' },
    { dst: '10.7.0.0/16', gateway: '10.0.0.1', dev: 'eth1' },
    { dst: '10.6.0.0/16', gateway: '10.0.0.1', dev: 'eth0' },
  ];
  t.same(parsePodInterfaces([veth], routes, [])[0]?.routes, [
    { destination: '10.6.0.0/16', gateway: '10.0.0.1' },
  ]);
  t.end();
});

void t.test('of several default routes the guest gets the one that the kernel uses', (t) => {
  const links = [veth, { ...veth, ifname: 'net1', ifindex: 3 }];
  const way = (dev: string, metric?: number): IpRoute => ({
    dst: 'default',
    gateway: `10.0.0.${dev === 'eth0' ? 1 : 2}`,
    dev,
    ...(metric !== undefined && { metric }),
  });
  const cases: [IpRoute[], (string | undefined)[]][] = [
    [
      [way('eth0'), way('net1')],
      ['10.0.0.1', undefined],
    ],
    [
      [way('net1'), way('eth0')],
      [undefined, '10.0.0.2'],
    ],
    [
      [way('eth0', 200), way('net1', 100)],
      [undefined, '10.0.0.2'],
    ],
    [
      [{ ...way('net1'), table: '100' }, way('eth0', 200)],
      ['10.0.0.1', undefined],
    ],
    [
      [
        {
          dst: 'default',
          nexthops: [
            { gateway: '10.0.0.1', dev: 'eth0' },
            { gateway: '10.0.0.2', dev: 'net1' },
          ],
        },
      ],
      ['10.0.0.1', undefined],
    ],
  ];
  for (const [routes, [first, second]] of cases) {
    const found = parsePodInterfaces(links, routes, []).map(({ routes }) =>
      routes.map(({ gateway }) => gateway),
    );
    t.same(found, [first === undefined ? [] : [first], second === undefined ? [] : [second]]);
  }
  t.end();
});

void t.test('a point-to-point address has no neighbours', (t) => {
  const link = {
    ...veth,
    addr_info: [{ local: '10.3.0.1', address: '10.3.0.2', prefixlen: 32, scope: 'global' }],
  };
  t.same(parsePodInterfaces([link], [{ dst: '10.3.0.2', dev: 'eth0' }], [])[0], {
    ifName: 'eth0',
    mac: veth.address,
    mtu: 1500,
    addresses: [{ address: '10.3.0.1', prefixLength: 32, gateway: undefined }],
    routes: [{ destination: '10.3.0.2/32', gateway: undefined }],
    dns: { nameservers: [], search: [] },
  });
  t.end();
});

void t.test('a gateway of the other family cannot be told to a guest', (t) => {
  const routes: IpRoute[] = [{ dst: 'default', via: { host: 'fe80::1' }, dev: 'eth0' }];
  t.throws(() => parsePodInterfaces([veth], routes, []), {
    kind: 'FailedPrecondition',
    message: /default .*via fe80::1/,
  });
  t.end();
});
