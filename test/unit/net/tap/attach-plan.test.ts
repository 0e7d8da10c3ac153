import t from 'tap';
import { planAttachment, planDetachment } from '../../../../src/net/attach-plan.ts';
import type { PortOptions } from '../../../../src/net/bridge-port.ts';
import type { GuestInterface } from '../../../../src/net/guest-network.ts';

const guest: GuestInterface = {
  ifName: 'eth0',
  mac: '02:00:00:00:00:05',
  mtu: 1450,
  addresses: [
    { address: '10.1.0.5', prefixLength: 24, gateway: '10.1.0.1' },
    { address: '2001:db8::5', prefixLength: 128, gateway: '2001:db8::1' },
  ],
  routes: [
    { destination: '::/0', gateway: '2001:db8::1' },
    { destination: '2001:db8:9::/48', gateway: 'fe80::1' },
  ],
  dns: { nameservers: [], search: [] },
};

const words = (commands: readonly (readonly string[])[]): string[] =>
  commands.map((command) => command.join(' '));

void t.test('a bridge takes one command', (t) => {
  const plan = planAttachment('vt1', { kind: 'bridge', bridge: 'br0' }, guest);
  t.same(words(plan.ip), ['link set dev vt1 address fe:00:00:00:00:05 mtu 1450 master br0 up']);
  t.same({ ...plan, ip: [] }, { required: [], sysctls: [], ip: [], vlans: [], up: [], ovs: undefined });
  t.equal(planDetachment('vt1', { kind: 'bridge', bridge: 'br0' }), undefined);
  t.end();
});

void t.test('OVS keeps a port in its database, so it is taken out again', (t) => {
  const attachment = { kind: 'ovs', bridge: 'br-int' } as const;
  const plan = planAttachment('vt1', attachment, guest);
  t.same(words(plan.ip), ['link set dev vt1 address fe:00:00:00:00:05 mtu 1450 up']);
  const added = '--timeout=5 --if-exists del-port vt1 -- add-port br-int vt1';
  const rest =
    '-- set Interface vt1 external_ids:attached-mac="02:00:00:00:00:05" -- get Bridge br-int datapath_type';
  t.equal(plan.ovs?.join(' '), `${added} vlan_mode=access ${rest}`);
  t.equal(planDetachment('vt1', attachment)?.join(' '), '--timeout=5 --if-exists del-port vt1');
  const ports: [PortOptions, string][] = [
    [{ vlan: 7 }, 'tag=7 vlan_mode=access'],
    [{ trunk: [{ minID: 7, maxID: 9 }] }, 'trunks=7,8,9 vlan_mode=trunk'],
    [
      { vlan: 7, trunk: [{ minID: 20, maxID: 20 }], isolated: true },
      'tag=7 trunks=20 vlan_mode=native-untagged protected=true',
    ],
  ];
  for (const [port, columns] of ports) {
    t.equal(
      planAttachment('vt1', { ...attachment, port }, guest).ovs?.join(' '),
      `${added} ${columns} ${rest}`,
    );
  }
  t.end();
});

void t.test('a port of a bridge with VLANs has never been in another one', (t) => {
  const port = {
    vlan: 7,
    trunk: [
      { minID: 5, maxID: 9 },
      { minID: 20, maxID: 20 },
    ],
    isolated: true,
    hairpin: true,
  };
  const plan = planAttachment('vt1', { kind: 'bridge', bridge: 'br0', port }, guest);
  t.same(words([...plan.ip, ...plan.vlans, ...plan.up]), [
    'link set dev vt1 address fe:00:00:00:00:05 mtu 1450 master br0',
    'link set dev vt1 type bridge_slave isolated on hairpin on',
    'vlan del dev vt1 vid 1-4094',
    'vlan add dev vt1 vid 5-9',
    'vlan add dev vt1 vid 20',
    'vlan add dev vt1 vid 7 pvid untagged',
    'link set dev vt1 up',
  ]);
  const flags = planAttachment('vt1', { kind: 'bridge', bridge: 'br0', port: { isolated: true } }, guest);
  t.same(words([...flags.ip, ...flags.vlans, ...flags.up]), [
    'link set dev vt1 address fe:00:00:00:00:05 mtu 1450 master br0 up',
    'link set dev vt1 type bridge_slave isolated on',
  ]);
  t.end();
});

void t.test('a routed guest has a route and proxies', (t) => {
  const plan = planAttachment('vt1', { kind: 'routed' }, guest);
  t.same(words(plan.ip), [
    'link set dev vt1 address fe:00:00:00:00:05 mtu 1450 up',
    'neighbor replace proxy 2001:db8::1 dev vt1',
    'address replace fe80::1/64 dev vt1 nodad',
    'route add 10.1.0.5/32 dev vt1',
    'route add 2001:db8::5/128 dev vt1',
  ]);
  t.same(plan.required, [{ path: 'ipv6/conf/all/forwarding', value: '1' }]);
  t.same(
    plan.sysctls.map(({ path, value }) => `${path}=${value}`),
    [
      'ipv4/ip_forward=1',
      'ipv4/conf/vt1/forwarding=1',
      'ipv4/conf/vt1/proxy_arp=1',
      'ipv4/neigh/vt1/proxy_delay=0',
      'ipv4/conf/vt1/accept_redirects=0',
      'ipv4/conf/vt1/send_redirects=0',
      'ipv6/conf/vt1/accept_ra=0',
      'ipv6/conf/vt1/accept_redirects=0',
      'ipv6/conf/vt1/forwarding=1',
      'ipv6/conf/vt1/proxy_ndp=1',
      'ipv6/neigh/vt1/proxy_delay=0',
      'ipv6/conf/vt1/dad_transmits=0',
      'ipv6/conf/vt1/disable_ipv6=0',
    ],
  );
  t.end();
});

void t.test('a routed guest with one family leaves the other alone', (t) => {
  const [v4, v6] = guest.addresses;
  const only4 = planAttachment('vt1', { kind: 'routed' }, { ...guest, addresses: [v4!], routes: [] });
  t.same(words(only4.ip), [
    'link set dev vt1 address fe:00:00:00:00:05 mtu 1450 up',
    'route add 10.1.0.5/32 dev vt1',
  ]);
  t.same(only4.required, []);
  t.notOk(only4.sysctls.some(({ path }) => path.startsWith('ipv6/')));
  const only6 = planAttachment('vt1', { kind: 'routed' }, { ...guest, addresses: [v6!], routes: [] });
  t.notOk(only6.sysctls.some(({ path }) => path.startsWith('ipv4/')));
  t.end();
});

void t.test('names that could be more than names are refused', (t) => {
  for (const name of ['', '-x', 'a b', 'a/b', 'a;b', '.', 'x'.repeat(16)]) {
    t.throws(
      () => planAttachment(name, { kind: 'routed' }, guest),
      { kind: 'InvalidArgument', message: /use/ },
      name,
    );
    t.throws(
      () => planAttachment('vt1', { kind: 'bridge', bridge: name }, guest),
      { kind: 'InvalidArgument', message: /use/ },
      name,
    );
    t.throws(
      () => planDetachment(name, { kind: 'ovs', bridge: 'br-int' }),
      { kind: 'InvalidArgument', message: /use/ },
      name,
    );
  }
  t.end();
});
