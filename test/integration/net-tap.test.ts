import t from 'tap';
import type { GuestInterface } from '../../src/net/guest-network.ts';
import { attachTap, detachTap } from '../../src/net/attach-tap.ts';
import { openTap, type Tap, type TapRequest } from '../../src/net/tap.ts';
import { FakeGuest } from '../support/fake-guest.ts';
import { ARP, arp, BROADCAST, ethernet, icmp6Packet, IPV6, macBytes, neighbor } from '../support/frames.ts';
import { HostWithoutOvs, networkLab } from '../support/network-lab.ts';

const lab = networkLab();
const { host } = lab;

const MAC_A = '02:00:00:00:00:0a';
const MAC_B = '02:00:00:00:00:0b';

function open(request: Partial<TapRequest> = {}): Tap {
  return openTap(lab, { name: 'vta', queues: 1, netns: undefined, uid: 12345, ...request });
}

function guest(mac: string, addresses: GuestInterface['addresses'] = [], mtu = 1400): GuestInterface {
  return { ifName: 'eth0', mac, mtu, addresses, routes: [], dns: { nameservers: [], search: [] } };
}

interface Link {
  readonly mtu: number;
  readonly flags: readonly string[];
  readonly master?: string;
  readonly address: string;
  readonly linkinfo: { readonly info_data: Record<string, unknown> };
}

async function link(name: string, netns?: string): Promise<Link> {
  const [found] = JSON.parse(await lab.run(netns, 'ip', '-details', '-json', 'link', 'show', name)) as Link[];
  return found!;
}

async function names(netns?: string): Promise<string[]> {
  const links = JSON.parse(await lab.run(netns, 'ip', '-json', 'link', 'show')) as { ifname: string }[];
  return links.map(({ ifname }) => ifname);
}

void t.test('a TAP has offload headers and queues, and ends with its descriptors', async (t) => {
  const tap = open({ queues: 3 });
  const { flags, linkinfo } = await link('vta');
  t.match(linkinfo.info_data, {
    ...{
      type: 'tap',
      pi: false,
      vnet_hdr: true,
      multi_queue: true,
      numqueues: 3,
      persist: false,
      user: '12345',
    },
  });
  t.notOk(flags.includes('UP'));
  t.equal(tap.queues.length, 3);
  tap[Symbol.dispose]();
  t.notOk((await names()).includes('vta'));
});

void t.test('a TAP with one queue has no multi-queue, which QEMU would not open', async (t) => {
  using _tap = open();
  t.match((await link('vta')).linkinfo.info_data, { vnet_hdr: true, multi_queue: false });
});

void t.test('a TAP is made in another namespace, where nothing of the host’s own talks on it', async (t) => {
  const netns = lab.netns(t);
  using _tap = open({ netns });
  t.ok((await names(netns)).includes('vta'));
  t.notOk((await names()).includes('vta'));
  t.equal(await lab.run(netns, 'cat', '/proc/sys/net/ipv6/conf/vta/disable_ipv6'), '1\n');
});

void t.test('a name that is taken is refused, and its owner keeps its queues', async (t) => {
  using _tap = open({ queues: 2 });
  t.throws(() => open({ queues: 2 }), {
    kind: 'FailedPrecondition',
    message: /vta exists already.*stop it first/,
  });
  t.match((await link('vta')).linkinfo.info_data, { numqueues: 2 });
  await lab.ip(undefined, 'link add vtb type veth peer name vtc');
  t.throws(() => open({ name: 'vtb' }), { kind: 'FailedPrecondition', message: /vtb exists already/ });
  await lab.ip(undefined, 'link delete vtb');
});

void t.test('a request that cannot be met leaves nothing open', async (t) => {
  t.throws(() => open({ queues: 0 }), { kind: 'InvalidArgument', message: /0 queues; use 1 to 256/ });
  t.throws(() => open({ name: 'a b' }), { kind: 'InvalidArgument', message: /"a b".*use 1 to 15/ });
  t.throws(() => open({ netns: '/run/netns/vst-none' }), { kind: 'NotFound', message: /vst-none/ });
  t.same(await names(), ['lo']);
});

void t.test('TAPs on a bridge reach each other', async (t) => {
  await lab.ip(undefined, 'link add br0 type bridge mcast_snooping 0', 'link set br0 up');
  t.teardown(() => lab.ip(undefined, 'link delete br0'));
  using tapA = open({ queues: 2 });
  using tapB = open({ name: 'vtb' });
  await attachTap(host, 'vta', { kind: 'bridge', bridge: 'br0' }, guest(MAC_A));
  await attachTap(host, 'vtb', { kind: 'bridge', bridge: 'br0' }, guest(MAC_B));
  t.match(await link('vta'), { master: 'br0', mtu: 1400 });
  t.ok((await link('vta')).flags.includes('UP'));

  const frame = ethernet(BROADCAST, MAC_A, 0x88b5, Buffer.from('hello'));
  const [a, b] = [new FakeGuest(tapA), new FakeGuest(tapB)];
  a.send(frame);
  t.same(await b.receivedBefore(frame), []);
  const back = ethernet(MAC_A, MAC_B, 0x88b5, Buffer.from('welcome'));
  b.send(back);
  t.same(await a.receivedBefore(back), []);
  await detachTap(host, 'vta', { kind: 'bridge', bridge: 'br0' });
});

void t.test('isolated ports do not reach each other, a hairpin is one', async (t) => {
  await lab.ip(undefined, 'link add br0 type bridge mcast_snooping 0', 'link set br0 up');
  t.teardown(() => lab.ip(undefined, 'link delete br0'));
  const isolated = { kind: 'bridge', bridge: 'br0', port: { isolated: true } } as const;
  const hairpin = { kind: 'bridge', bridge: 'br0', port: { hairpin: true } } as const;
  using tapA = open();
  using tapB = open({ name: 'vtb' });
  using tapC = open({ name: 'vtc' });
  await attachTap(host, 'vta', isolated, guest(MAC_A));
  await attachTap(host, 'vtb', isolated, guest(MAC_B));
  await attachTap(host, 'vtc', hairpin, guest('02:00:00:00:00:0c'));
  const [a, b, c] = [new FakeGuest(tapA), new FakeGuest(tapB), new FakeGuest(tapC)];
  const say = (mac: string, text: string): Buffer => ethernet(BROADCAST, mac, 0x88b5, Buffer.from(text));
  const [secret, open2] = [say(MAC_A, 'to nobody'), say('02:00:00:00:00:0c', 'to all')];
  a.send(secret);
  c.send(open2);
  t.same(await b.receivedBefore(open2), [], 'what another isolated port sends is not there');
  t.same(await c.receivedBefore(open2), [secret], 'an open port has it, and its own back');
});

void t.test('VLANs of a port, or a sentence where the kernel’s bridges have none', async (t) => {
  const filtering = await lab
    .ip(undefined, 'link add br0 type bridge mcast_snooping 0 vlan_filtering 1 vlan_default_pvid 5')
    .then(() => true)
    .catch(() => false);
  if (!filtering) await lab.ip(undefined, 'link add br0 type bridge mcast_snooping 0');
  t.teardown(() => lab.ip(undefined, 'link delete br0'));
  await lab.ip(undefined, 'link set br0 up');
  using _tap = open();
  const port = { vlan: 7, trunk: [{ minID: 7, maxID: 9 }] };
  const attached = attachTap(host, 'vta', { kind: 'bridge', bridge: 'br0', port }, guest(MAC_A));
  if (!filtering) {
    await t.rejects(attached, { kind: 'FailedPrecondition', message: /vta .*bridge "br0".*vlan/s });
    return;
  }
  await attached;
  const shown = JSON.parse(await lab.run(undefined, 'bridge', '-json', 'vlan', 'show', 'dev', 'vta')) as {
    vlans: object[];
  }[];
  t.match(shown[0]?.vlans, [{ vlan: 7, flags: ['PVID', 'Egress Untagged'] }, { vlan: 8 }, { vlan: 9 }]);
  t.equal(shown[0]?.vlans.length, 3, 'not in the default one');
});

void t.test('a bridge that cannot be joined is named', async (t) => {
  using _tap = open();
  await t.rejects(attachTap(host, 'vta', { kind: 'bridge', bridge: 'br9' }, guest(MAC_A)), {
    kind: 'FailedPrecondition',
    message: /vta cannot join the bridge "br9".*does not exist.*name a Linux bridge/s,
  });
  await t.rejects(attachTap(host, 'vta', { kind: 'bridge', bridge: 'lo' }, guest(MAC_A)), {
    kind: 'FailedPrecondition',
    message: /"lo".*link set dev vta address fe:00:00:00:00:0a mtu 1400 master lo up/,
  });
});

void t.test('OVS without its command', async (t) => {
  using _tap = open();
  await t.rejects(attachTap(new HostWithoutOvs(), 'vta', { kind: 'ovs', bridge: 'br-int' }, guest(MAC_A)), {
    kind: 'FailedPrecondition',
    message: /ovs-vsctl.*install Open vSwitch/,
  });
});

void t.test('routed: the guest is reached by its address and finds its gateways', async (t) => {
  const client = lab.netns(t);
  await lab.ip(undefined, `link add uplink type veth peer name eth0 netns ${client}`);
  t.teardown(() => lab.ip(undefined, 'link delete uplink'));
  host.writeText('/proc/sys/net/ipv6/conf/uplink/disable_ipv6', '0');
  await lab.run(client, 'sh', '-c', 'echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6');
  await lab.ip(
    undefined,
    ...[
      'link set uplink up',
      'address add 192.0.2.1/24 dev uplink',
      'address add 2001:db8:1::1/64 dev uplink nodad',
    ],
    'route add default via 192.0.2.2',
  );
  await lab.ip(
    client,
    ...[
      'link set eth0 up',
      'address add 192.0.2.2/24 dev eth0',
      'address add 2001:db8:1::2/64 dev eth0 nodad',
    ],
    ...['route add 10.8.0.0/24 via 192.0.2.1', 'route add 2001:db8:8::/64 via 2001:db8:1::1'],
  );
  const dual = guest(MAC_A, [
    { address: '10.8.0.5', prefixLength: 24, gateway: '10.8.0.1' },
    { address: '2001:db8:8::5', prefixLength: 128, gateway: '2001:db8:8::1' },
  ]);

  await t.test('IPv6 forwarding is the administrator’s to turn on', async (t) => {
    using _tap = open();
    await t.rejects(attachTap(host, 'vta', { kind: 'routed' }, dual), {
      kind: 'FailedPrecondition',
      message: /net\.ipv6\.conf\.all\.forwarding is not 1; set it/,
    });
  });
  host.writeText('/proc/sys/net/ipv6/conf/all/forwarding', '1');

  const tap = open();
  await attachTap(host, 'vta', { kind: 'routed' }, dual);
  const fake = new FakeGuest(tap);
  const tapMac = macBytes((await link('vta')).address);

  await t.test('ARP for the gateway is answered at once', (t) => {
    const ask = { operation: 1, senderMac: MAC_A, senderIp: '10.8.0.5', targetIp: '10.8.0.1' };
    fake.send(ethernet(BROADCAST, MAC_A, ARP, arp(ask)));
    const answers = fake.received().filter((frame) => frame.readUInt16BE(12) === ARP);
    t.same(
      answers.map((frame) => [
        frame.readUInt16BE(20),
        frame.subarray(22, 28),
        frame.subarray(28, 32).join('.'),
      ]),
      [[2, tapMac, '10.8.0.1']],
    );
    t.end();
  });

  await t.test('so is ND', (t) => {
    const group = 'ff02::1:ff00:1';
    const ask = icmp6Packet('2001:db8:8::5', group, 135, neighbor(0, '2001:db8:8::1', 1, MAC_A));
    fake.send(ethernet('33:33:ff:00:00:01', MAC_A, IPV6, ask));
    const answers = fake.received().filter((frame) => frame[20] === 58 && frame[54] === 136);
    t.same(
      answers.map((frame) => frame.subarray(80, 86)),
      [tapMac],
    );
    t.end();
  });

  for (const address of ['10.8.0.5', '2001:db8:8::5']) {
    await t.test(`ping ${address}`, async (t) => {
      const ping = lab.run(client, 'busybox', 'ping', '-c', '1', '-W', '20', address);
      await fake.answerUntil(ping, MAC_A, ['10.8.0.5', '2001:db8:8::5']);
      t.match(await ping, / 1 packets received/);
    });
  }

  await t.test('an address has one owner', async (t) => {
    using _tap = open({ name: 'vtb' });
    await t.rejects(attachTap(host, 'vtb', { kind: 'routed' }, dual), {
      kind: 'FailedPrecondition',
      message: /vtb cannot get its route.*10\.8\.0\.5\/32.*release it/,
    });
  });

  tap[Symbol.dispose]();
  const left = await lab.run(undefined, 'ip', 'route', 'show', 'table', 'all');
  t.notMatch(left, /10\.8\.0\.5|2001:db8:8::5/, 'no route is left');
});
