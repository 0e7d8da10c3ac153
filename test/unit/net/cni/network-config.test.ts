import t from 'tap';
import { parseNetworkConfig, parseNetworkIdentity } from '../../../../src/net/cni/network-config.ts';

const LEAST = { cniVersion: '1.0.0', name: 'vms', type: 'vm-tap', bridge: 'br0' };
const IPAM = { type: 'host-local', subnet: '10.1.0.0/24' };

function parse(config: object): ReturnType<typeof parseNetworkConfig> {
  return parseNetworkConfig(parseNetworkIdentity(JSON.stringify(config)));
}

void t.test('a short configuration, with everything else by default', (t) => {
  t.match(parse(LEAST), {
    cniVersion: '1.0.0',
    name: 'vms',
    stateDir: '/run/vmshim',
    ipam: undefined,
    attachment: { kind: 'bridge', bridge: 'br0' },
    mtu: undefined,
    isGateway: false,
    isDefaultGateway: undefined,
    mac: undefined,
    dns: { nameservers: [], domain: undefined, search: [], options: [] },
  });
  t.match(parse({ ...LEAST, mtu: 0, ipam: {} }), { mtu: undefined, ipam: undefined });
  t.end();
});

void t.test('everything that can be said', (t) => {
  const config = parse({
    ...LEAST,
    mode: 'bridge',
    mtu: 9000,
    stateDir: '/run/other',
    mac: 'derived',
    isGateway: true,
    isDefaultGateway: false,
    ipam: IPAM,
    dns: { nameservers: ['10.0.0.10'] },
    capabilities: { mac: true },
    args: { labels: [] },
    runtimeConfig: { mac: '02:00:00:00:00:AA', portMappings: [] },
    'cni.dev/valid-attachments': [],
  });
  t.match(config, {
    stateDir: '/run/other',
    ipam: 'host-local',
    mtu: 9000,
    isGateway: true,
    isDefaultGateway: false,
    mac: '02:00:00:00:00:aa',
    dns: { nameservers: ['10.0.0.10'] },
  });
  t.match(parse({ ...LEAST, mode: 'ovs', bridge: 'br-int' }), {
    attachment: { kind: 'ovs', bridge: 'br-int' },
  });
  t.strictSame(parse({ ...LEAST, mode: 'ovs', vlan: 7, trunk: [{ id: 9 }], isolated: false }).attachment, {
    kind: 'ovs',
    bridge: 'br0',
    port: { vlan: 7, trunk: [{ minID: 9, maxID: 9 }] },
  });
  const { bridge: _, ...rest } = LEAST;
  t.same(parse({ ...rest, mode: 'routed', ipam: IPAM }).attachment, { kind: 'routed' });
  t.end();
});

void t.test('the address that was asked for: runtimeConfig before args', (t) => {
  const args = { cni: { mac: '02:00:00:00:00:01' } };
  t.equal(parse({ ...LEAST, args }).mac, '02:00:00:00:00:01');
  t.equal(parse({ ...LEAST, args, runtimeConfig: { mac: '02:00:00:00:00:02' } }).mac, '02:00:00:00:00:02');
  t.end();
});

void t.test(
  'the pod’s own DNS, with the keys as the conventions have them and as containerd writes them',
  (t) => {
    const dns = { nameservers: ['10.0.0.10'] };
    for (const said of [
      { servers: ['10.96.0.10'], searches: ['a.b'], options: ['ndots:5'] },
      { Servers: ['10.96.0.10'], Searches: ['a.b'], Options: ['ndots:5'] },
    ]) {
      t.same(parse({ ...LEAST, dns, runtimeConfig: { dns: said } }).dns, {
        nameservers: ['10.96.0.10'],
        domain: undefined,
        search: ['a.b'],
        options: ['ndots:5'],
      });
    }
    t.same(parse({ ...LEAST, dns, runtimeConfig: { dns: { Servers: null } } }).dns.nameservers, [
      '10.0.0.10',
    ]);
    t.end();
  },
);

void t.test('what is wrong fails with one sentence', (t) => {
  const of = 'of the network configuration';
  const cases: [object, number, string | RegExp][] = [
    [{ cniVersion: '0.2.0' }, 1, `cniVersion ${of} is "0.2.0"; vm-tap knows 0.3.1, 0.4.0, 1.0.0, 1.1.0`],
    [{ cniVersion: null }, 1, /^cniVersion of the network configuration is missing; vm-tap knows/],
    [{ name: '../x' }, 7, /^name of the network configuration must be letters, .* but is "..\/x"$/],
    [{ name: undefined }, 7, /but is missing$/],
    [
      { bridge: undefined },
      7,
      /^bridge of the network configuration must be the name of a link.* but is missing$/,
    ],
    [{ bridge: 'br0; reboot' }, 7, /^bridge of .* but is "br0; reboot"$/],
    [{ bridge: 7 }, 7, /^bridge of .* but is 7$/],
    [{ mode: 'macvtap' }, 7, `mode ${of} must be "bridge", "ovs" or "routed", but is "macvtap"`],
    [{ mode: 'routed', ipam: IPAM }, 7, /^bridge .* makes no sense with mode "routed"/],
    [
      { mode: 'routed', bridge: undefined },
      7,
      /^mode "routed" of the network configuration needs addresses: set ipam/,
    ],
    [{ isGateway: true }, 7, /^isGateway of the network configuration needs addresses: set ipam/],
    [{ isGateway: true, mode: 'ovs', ipam: IPAM }, 7, /^isGateway .* is for mode "bridge", not "ovs"/],
    [{ isGateway: 'yes' }, 7, `isGateway ${of} must be true or false, but is "yes"`],
    [{ mtu: 67 }, 7, /^mtu of the network configuration is 67; it must be from 68 to 65521/],
    [{ mtu: 1500.5 }, 7, /^mtu of .* must be a whole number/],
    [{ stateDir: 'run' }, 7, `stateDir ${of} must be an absolute path without "..", but is "run"`],
    [{ stateDir: '/run/../etc' }, 7, /^stateDir/],
    [
      { mac: '02:00:00:00:00:01' },
      7,
      /^mac of .* must be "derived" \(a fixed address would be every pod’s\)/,
    ],
    [{ runtimeConfig: { mac: 'nonsense' } }, 7, /^runtimeConfig.mac of .* must be a unicast MAC address/],
    [
      { runtimeConfig: { bandwidth: { ingressRate: 1 } } },
      7,
      /^runtimeConfig.bandwidth.ingressRate of .* at least 1000 bit\/s, but is 1$/,
    ],
    [
      { ipam: { subnet: '10.0.0.0/8' } },
      7,
      /^ipam.type of .* must be the name of an IPAM plugin.* is missing$/,
    ],
    [{ ipam: { type: '../../bin/sh' } }, 7, /^ipam.type of/],
    [
      { ipam: { type: 'dhcp' } },
      7,
      /^ipam.type of .* is "dhcp", which needs a link in the pod’s namespace: leave ipam out/,
    ],
    [{ ipam: 'host-local' }, 7, `ipam ${of} must be an object, but is "host-local"`],
    [
      { dns: { nameservers: ['ns.example'] } },
      7,
      `dns.nameservers[0] ${of} must be an IP address, but is "ns.example"`,
    ],
    [{ dns: { search: 'a' } }, 7, `dns.search ${of} must be a list, but is "a"`],
    [{ isGatway: true }, 7, 'unknown key "isGatway" in the network configuration; did you mean "isGateway"?'],
    [{ colour: 'red' }, 7, /^unknown key "colour" in the network configuration; known are cniVersion, /],
    [{ ipMasq: true }, 7, /^unknown key "ipMasq" in .*; remove it: translation of addresses/],
    [{ vlanTrunk: [] }, 7, `unknown key "vlanTrunk" in the network configuration; write trunk`],
    [{ vlna: 7 }, 7, /did you mean "vlan"\?$/],
    [{ vlan: 4095 }, 7, `vlan ${of} must be a whole number from 1 to 4094, but is 4095`],
    [{ vlan: '7' }, 7, /^vlan of/],
    [{ trunk: 7 }, 7, `trunk ${of} must be a list, but is 7`],
    [{ trunk: [{ id: 0 }] }, 7, /^trunk\[0\].id of .* from 1 to 4094, but is 0$/],
    ...[{}, { id: 1, minID: 1, maxID: 2 }, { minID: 3 }, { minID: 3, maxID: 2 }].map(
      (range): [object, number, RegExp] => [
        { trunk: [{ id: 5 }, range] },
        7,
        /^trunk\[1\] of .* must be \{"id": N\} or \{"minID": N, "maxID": M\}/,
      ],
    ),
    [{ isolated: 1 }, 7, /^isolated of .* must be true or false/],
    [{ hairpin: true, mode: 'ovs' }, 7, /^hairpin .* is for mode "bridge", not "ovs": remove it$/],
    [{ mode: 'routed', bridge: undefined, ipam: IPAM, vlan: 7 }, 7, /^vlan .* mode "routed" has none of/],
    [
      { runtimeConfig: { 'io.kubernetes.cri.pod-annotations': { 'vmshim.io/mac': 'x' } } },
      7,
      /^runtimeConfig.io.kubernetes.cri.pod-annotations.vmshim.io\/mac of .* must be a unicast MAC/,
    ],
  ];
  for (const [change, code, message] of cases) {
    t.throws(() => parse({ ...LEAST, ...change }), { code, message }, JSON.stringify(change));
  }
  t.end();
});

void t.test('what is no configuration at all', (t) => {
  t.throws(() => parseNetworkIdentity('{'), {
    code: 6,
    message: /must be the network configuration in JSON, but is "{"/,
  });
  t.throws(() => parseNetworkIdentity('  '), { code: 6, message: /but is empty$/ });
  t.throws(() => parseNetworkIdentity('null'), { code: 1 });
  t.throws(() => parseNetworkIdentity('[]'), { code: 7, message: /must be an object, but is a list/ });
  t.end();
});

void t.test('a mistake that tearing down does not meet leaves it alone', (t) => {
  const config = {
    ...LEAST,
    bridge: 7,
    mode: 'nonsense',
    ipMasq: true,
    runtimeConfig: { mac: 'x' },
    ipam: IPAM,
  };
  t.match(parseNetworkIdentity(JSON.stringify(config)), { name: 'vms', ipam: 'host-local' });
  t.end();
});
