import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { guardMirroredTap, guardTap } from '../../../../src/net/guard-point.ts';
import { GUARD_REASONS, guardRules } from '../../../../src/net/guard-rules.ts';
import { type GuardedGuest, renderGuard, renderUnguard } from '../../../../src/net/guard-script.ts';

const guest: GuardedGuest = {
  mac: '02:42:ac:11:00:05',
  addresses: [
    { address: '10.1.0.5', prefixLength: 24, gateway: '10.1.0.1' },
    { address: '10.1.0.6', prefixLength: 24, gateway: undefined },
    { address: '2001:DB8:0::5', prefixLength: 64, gateway: 'fe80::1' },
  ],
  routes: [
    { destination: '::/0', gateway: 'fe80::1' },
    { destination: '2001:db8:9::/48', gateway: '2001:db8::9' },
  ],
};
const atBridge = guardTap('vt1', { kind: 'bridge', bridge: 'br0' });
const golden = (name: string): string => readFileSync(join(import.meta.dirname, 'golden', name), 'utf8');

void t.test('the rules', (t) => {
  t.equal(guardRules('bridge').script, golden('bridge.nft'));
  t.equal(guardRules('ingress').script, golden('netdev.nft'));
  t.not(guardRules('bridge').marker, guardRules('ingress').marker);
  t.end();
});

const elements = (table: string): string[] => [
  `${table} macs { "vt1" . 02:42:ac:11:00:05 }`,
  `${table} ipv4s { "vt1" . 10.1.0.5, "vt1" . 10.1.0.6 }`,
  `${table} ipv6s { "vt1" . 0x20010db8000000000000000000000005, "vt1" . 0xfe800000000000000042acfffe110005 }`,
  `${table} reserved6 { 0xfe800000000000000042acfffe110005 }`,
  ...GUARD_REASONS.map((reason) => `${table} dropped_${reason} { "vt1" }`),
  `${table} guests { "vt1" }`,
];

/** Of the DHCP responder. */
const madeUp = '0xfe8000000000000000766dfffe000001, 0xfe8000000000000000766dfffe000002';

void t.test('a guest at a bridge is elements only', (t) => {
  t.same(renderGuard(atBridge, guest).split('\n'), [
    `flush chain bridge vmshim ${guardRules('bridge').marker}`,
    ...elements('bridge vmshim').map((element) => `add element ${element}`),
    `add element bridge vmshim reserved6 { ${madeUp}, 0xfe800000000000000000000000000001 }`,
    '',
  ]);
  t.same(renderUnguard(atBridge, guest).split('\n'), [
    ...elements('bridge vmshim').flatMap((element) => [
      `add element ${element}`,
      `delete element ${element}`,
    ]),
    '',
  ]);
  t.end();
});

void t.test('elsewhere it has a hook, and beside a pod’s link one that sends on', (t) => {
  const dropped = ['guard_vt1', 'forward_vt1'].flatMap((chain) => [
    `add chain netdev vmshim ${chain}`,
    `delete chain netdev vmshim ${chain}`,
  ]);
  const hook = [
    'add chain netdev vmshim guard_vt1 { type filter hook ingress device "vt1" priority -350; policy accept; }',
    'flush chain netdev vmshim guard_vt1',
    'add rule netdev vmshim guard_vt1 goto guest',
  ];
  const forward = [
    'add chain netdev vmshim forward_vt1 { type filter hook ingress device "vt1" priority 0; policy accept; }',
    'flush chain netdev vmshim forward_vt1',
    'add rule netdev vmshim forward_vt1 fwd to "eth0"',
  ];
  const tail = (script: string): string[] => script.trimEnd().split('\n').slice(-hook.length);
  for (const kind of ['routed', 'ovs'] as const) {
    const attachment = kind === 'ovs' ? { kind, bridge: 'br-int' } : { kind };
    t.same(tail(renderGuard(guardTap('vt1', attachment), guest)), hook);
  }
  const mirrored = guardMirroredTap('/run/netns/pod', 'vt1', 'eth0');
  const script = renderGuard(mirrored, guest).trimEnd().split('\n');
  t.same(script.slice(-hook.length - forward.length), [...hook, ...forward]);
  t.same(renderUnguard(mirrored, guest).split('\n').slice(0, dropped.length), dropped);
  t.end();
});

void t.test('a guest with a trunk may send VLAN tags', (t) => {
  const trunk = [{ minID: 7, maxID: 7 }];
  const point = guardTap('vt1', { kind: 'bridge', bridge: 'br0', port: { trunk } });
  t.match(renderGuard(point, guest), 'add element bridge vmshim trunks { "vt1" }');
  t.match(renderUnguard(point, guest), 'delete element bridge vmshim trunks { "vt1" }');
  t.notMatch(renderGuard(atBridge, guest), /trunks/);
  t.end();
});

void t.test('a guest without addresses has its link-local one', (t) => {
  const script = renderGuard(atBridge, { mac: guest.mac, addresses: [], routes: [] });
  t.notMatch(script, /ipv4s/);
  t.match(script, /ipv6s \{ "vt1" \. 0xfe800000000000000042acfffe110005 \}/);
  t.end();
});

void t.test('nothing but names and addresses gets into a script', (t) => {
  const with4 = (address: string): GuardedGuest => ({
    ...guest,
    addresses: [{ address, prefixLength: 32, gateway: undefined }],
  });
  for (const address of ['', '10.1.0.5 }', '10.1.0.0/24', '::1%lo', '1.2.3.4, 5.6.7.8']) {
    t.throws(
      () => renderGuard(atBridge, with4(address)),
      { kind: 'InvalidArgument', message: /no IP address/ },
      address,
    );
  }
  for (const mac of ['', '02:42:ac:11:00', '02:42:AC:11:00:05', '02:42:ac:11:00:05 }']) {
    t.throws(() => renderGuard(atBridge, { ...guest, mac }), {
      kind: 'InvalidArgument',
      message: /no MAC address/,
    });
  }
  t.throws(() => guardTap('a" }', { kind: 'routed' }), { kind: 'InvalidArgument', message: /use/ });
  t.throws(() => guardMirroredTap('/x', 'vt1', 'a" }'), { kind: 'InvalidArgument', message: /use/ });
  t.end();
});
