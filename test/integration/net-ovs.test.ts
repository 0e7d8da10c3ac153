/**
 * Ports of a real Open vSwitch. Its userspace datapath runs everywhere; the kernel's, which the spoof guard needs, where the
 * kernel has it.
 */
import t from 'tap';
import { closeTapNic, openTapNic } from '../../src/net/attach-nic.ts';
import type { PortOptions } from '../../src/net/bridge-port.ts';
import { findLink } from '../../src/net/node-link.ts';
import type { GuestInterface, TapAttachment } from '../../src/net/guest-network.ts';
import { BROADCAST, ethernet, IPV4, ipv4, udp } from '../support/frames.ts';
import { FakeGuest } from '../support/fake-guest.ts';
import { networkLab } from '../support/network-lab.ts';
import { ovsLab } from '../support/ovs-lab.ts';

const lab = networkLab();
const { native } = lab;
await lab.ip(undefined, 'link set lo up');

const unguarded = { queues: 1, uid: 0, guard: false };

function nic(n: number, port?: PortOptions) {
  const attachment: TapAttachment = { kind: 'ovs', bridge: 'br-int', ...(port !== undefined && { port }) };
  return { tap: `vt${n}`, attachment, guest: guestOf(n), bandwidth: undefined };
}

function guestOf(n: number): GuestInterface {
  return {
    ifName: 'eth0',
    mac: `02:00:00:00:00:0${n}`,
    mtu: 1400,
    addresses: [{ address: `10.7.0.${n}`, prefixLength: 24, gateway: undefined }],
    routes: [],
    dns: { nameservers: [], search: [] },
  };
}

/** A frame of a guest to everybody, from an address that it may use, or not. */
function frame(n: number, source = `10.7.0.${n}`, text = 'hello'): Buffer {
  const packet = ipv4(source, '10.7.0.255', 17, udp(9, 9, Buffer.from(text)));
  return ethernet(BROADCAST, guestOf(n).mac, IPV4, packet);
}

void t.test('ports of the userspace datapath', async (t) => {
  const ovs = await ovsLab(t, native);
  const deps = { host: ovs.host, native };
  ovs.vsctl('add-br', 'br-int', '--', 'set', 'Bridge', 'br-int', 'datapath_type=netdev');
  const nics = [
    nic(1),
    nic(2),
    nic(3, { vlan: 7 }),
    nic(4, { vlan: 7 }),
    nic(5, { trunk: [{ minID: 7, maxID: 9 }] }),
  ];
  using taps = new DisposableStack();
  const guests: FakeGuest[] = [];
  for (const one of nics) guests.push(new FakeGuest(taps.use(await openTapNic(deps, one, unguarded))));
  const [first, second, third, fourth] = guests;

  t.match(ovs.vsctl('get', 'Interface', 'vt1', 'external_ids'), /attached-mac="02:00:00:00:00:01"/);
  t.match(ovs.vsctl('get', 'Port', 'vt3', 'tag', 'vlan_mode'), /^7\naccess/);
  t.match(ovs.vsctl('get', 'Port', 'vt5', 'tag', 'trunks', 'vlan_mode'), /^\[\]\n\[7, 8, 9\]\ntrunk/);
  t.equal((await findLink(ovs.host, 'vt1'))?.mtu, 1400);
  // The daemon tells of it when it has looked.
  ovs.vsctl('wait-until', 'Interface', 'vt1', 'mtu=1400');

  const reaches = async (text: string): Promise<void> => {
    first?.send(frame(1, undefined, text));
    t.same(await second?.receivedBefore(frame(1, undefined, text)), [], `${text}: a port without a VLAN`);
    third?.send(frame(3, undefined, text));
    // Were the VLANs not kept apart, it would have the frames of the first before this.
    t.same(await fourth?.receivedBefore(frame(3, undefined, text)), [], `${text}: a port of the VLAN`);
  };
  await reaches('before');
  await ovs.restartSwitch();
  await reaches('after ovs-vswitchd was killed and started again');

  // Somebody moved a port, and one VM ended without a word.
  ovs.vsctl('add-br', 'br-other', '--', 'set', 'Bridge', 'br-other', 'datapath_type=netdev');
  ovs.vsctl('del-port', 'vt2', '--', 'add-port', 'br-other', 'vt2');
  taps.dispose();
  for (const one of nics) await closeTapNic(ovs.host, one);
  t.same([ovs.vsctl('list-ports', 'br-int'), ovs.vsctl('list-ports', 'br-other')], ['', '']);
  for (const one of nics) await closeTapNic(ovs.host, one);
});

void t.test('a port that an earlier VM left, and a bridge that is not there', async (t) => {
  const ovs = await ovsLab(t, native);
  const deps = { host: ovs.host, native };
  for (const bridge of ['br-old', 'br-int']) {
    ovs.vsctl('add-br', bridge, '--', 'set', 'Bridge', bridge, 'datapath_type=netdev');
  }
  ovs.vsctl('--no-wait', 'add-port', 'br-old', 'vt1', 'tag=9');
  using _tap = await openTapNic(deps, nic(1), unguarded);
  t.equal(ovs.vsctl('port-to-br', 'vt1').trim(), 'br-int');
  t.equal(ovs.vsctl('get', 'Port', 'vt1', 'tag').trim(), '[]');
  await closeTapNic(ovs.host, nic(1));
  const missing = { ...nic(2), attachment: { kind: 'ovs', bridge: 'br-none' } } as const;
  await t.rejects(openTapNic(deps, missing, unguarded), { message: /no bridge named br-none/ });
  t.equal(await findLink(ovs.host, 'vt2'), undefined);
});

void t.test(
  'a datapath that takes frames past the guard is refused to a guest that is guarded',
  async (t) => {
    const ovs = await ovsLab(t, native);
    const deps = { host: ovs.host, native };
    ovs.vsctl('add-br', 'br-int', '--', 'set', 'Bridge', 'br-int', 'datapath_type=netdev');
    await t.rejects(openTapNic(deps, nic(1), { ...unguarded, guard: true }), {
      kind: 'FailedPrecondition',
      message:
        /bridge "br-int" has the userspace datapath, which takes frames past the spoof guard of vt1; use/,
    });
    t.equal(ovs.vsctl('list-ports', 'br-int'), '');
    t.notMatch(await lab.run(undefined, 'nft', 'list', 'ruleset'), /vt1/);

    // Why: what netfilter drops is there all the same.
    using first = await openTapNic(deps, nic(1), unguarded);
    using second = await openTapNic(deps, nic(2), unguarded);
    const drop = '{ type filter hook ingress device "vt1" priority -350; policy drop; }';
    await lab.run(undefined, 'nft', 'add', 'table', 'netdev', 'proof');
    await lab.run(undefined, 'nft', 'add', 'chain', 'netdev', 'proof', 'nothing', drop);
    new FakeGuest(first).send(frame(1));
    t.same(await new FakeGuest(second).receivedBefore(frame(1)), []);
    await lab.run(undefined, 'nft', 'delete', 'table', 'netdev', 'proof');
    for (const one of [nic(1), nic(2)]) await closeTapNic(ovs.host, one);
  },
);
