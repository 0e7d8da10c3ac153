import t from 'tap';
import { buildAddon } from '../../../../scripts/build-addon.ts';
import { loadNative } from '../../../../src/host/native.ts';
import { openPacketSocket, type PacketSocket } from '../../../../src/host/packet-socket.ts';
import { assembleBpf } from '../../../../src/net/dhcp/bpf-program.ts';
import { type LeaseOptions, planGuestLease } from '../../../../src/net/dhcp/guest-lease.ts';
import { requestFilter } from '../../../../src/net/dhcp/request-filter.ts';
import type { GuestInterface } from '../../../../src/net/guest-network.ts';
import type { Teardown } from '../../../support/temp-dir.ts';
import { testNetns } from '../../../support/test-netns.ts';
import { bridged, neighbour, routed } from './guests.ts';
import { dhcp4, icmp6Frame, udp4Frame, udp6Frame } from './wire.ts';

buildAddon();
const native = loadNative();
const ipv4Guest = {
  ...bridged,
  addresses: bridged.addresses.slice(0, 1),
  routes: bridged.routes.slice(0, 1),
};
const ipv6Guest = { ...bridged, addresses: bridged.addresses.slice(1), routes: bridged.routes.slice(1) };
const OURS = 'fe8000000000000000766dfffe000001';

const discover = udp4Frame(dhcp4({ options: [[53, '01']] }));
const solicit = udp6Frame(Buffer.from('01aabbcc', 'hex'));
const routerSolicitation = icmp6Frame(133, Buffer.alloc(4));
const neighbourSolicitation = (target: string): Buffer =>
  icmp6Frame(135, Buffer.from('00000000' + target, 'hex'));

function changed(frame: Buffer, at: number, ...bytes: number[]): Buffer {
  const copy = Buffer.from(frame);
  copy.set(bytes, at);
  return copy;
}

function tagged(frame: Buffer): Buffer {
  return Buffer.concat([frame.subarray(0, 12), Buffer.from('8100000a', 'hex'), frame.subarray(12)]);
}

function withIpOption(frame: Buffer): Buffer {
  const longer = Buffer.concat([frame.subarray(0, 34), Buffer.from('01010100', 'hex'), frame.subarray(34)]);
  longer[14] = 0x46;
  longer.writeUInt16BE(longer.length - 14, 16);
  return longer;
}

/** Never wanted, each for one reason. */
const others: Readonly<Record<string, Buffer>> = {
  'another MAC address': udp4Frame(dhcp4({ options: [[53, '01']] }), { from: '52:54:00:12:34:57' }),
  'another vendor': udp4Frame(dhcp4({ options: [[53, '01']] }), { from: '52:55:00:12:34:56' }),
  'another UDP port': udp4Frame(Buffer.alloc(300), { port: 53 }),
  'a later fragment': changed(discover, 20, 0, 1),
  'a first fragment': changed(discover, 20, 0x20, 0),
  TCP: changed(discover, 23, 6),
  ARP: changed(discover, 12, 0x08, 0x06),
  'a VLAN': tagged(discover),
  'a VLAN over IPv6': tagged(routerSolicitation),
  'another UDP port over IPv6': udp6Frame(Buffer.alloc(4), { port: 546 }),
  'a router advertisement': icmp6Frame(134, Buffer.alloc(12)),
  'an echo request': icmp6Frame(128, Buffer.alloc(4)),
  'a neighbour solicitation': neighbourSolicitation('fe80000000000000000000000000abcd'),
  'TCP over IPv6': changed(solicit, 20, 6),
  'cut short': discover.subarray(0, 30),
};

/** The frames that the kernel lets through for that guest, in the order given. */
async function passed(
  t: Teardown,
  guest: GuestInterface,
  options: LeaseOptions,
  frames: readonly Buffer[],
): Promise<string[]> {
  const [near, far] = [testNetns(t), testNetns(t)];
  for (const netns of [near, far])
    netns.exec('sh', '-c', 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6');
  near.exec('ip', 'link', 'add', 'veth', 'type', 'veth', 'peer', 'name', 'veth', 'netns', far.name);
  for (const end of [near, far]) end.exec('ip', 'link', 'set', 'veth', 'up');

  const lease = planGuestLease(guest, options);
  const last = lease.v4 === undefined ? changed(solicit, 54, 0xff) : changed(discover, 54, 0xff);
  const received: string[] = [];
  const alive = setInterval(() => undefined, 60_000);
  let receiver: PacketSocket | undefined;
  const ended = new Promise<void>((resolve) => {
    const budget = { frames: 1000, windowMs: 1000 };
    const onFrame = (frame: Uint8Array): void => {
      const hex = Buffer.from(frame).toString('hex');
      if (hex === last.toString('hex')) resolve();
      else received.push(hex);
    };
    receiver = openPacketSocket(native, {
      ifName: 'veth',
      netns: near.path,
      filter: requestFilter(lease, 4096),
      budget,
      onFrame,
    });
  });
  using sender = openPacketSocket(native, {
    ifName: 'veth',
    netns: far.path,
    filter: assembleBpf([{ return: 0 }]),
    budget: { frames: 1, windowMs: 1000 },
    onFrame: () => undefined,
  });
  for (const frame of [...frames, last]) if (!sender.send(frame)) throw new Error('not sent');
  await ended;
  clearInterval(alive);
  receiver?.close();
  return received;
}

const hex = (frames: readonly Buffer[]): string[] => frames.map((frame) => frame.toString('hex'));
const wanted = { v4: [discover, withIpOption(discover)], v6: [solicit, routerSolicitation] };
const all = [...Object.values(others), ...wanted.v4, ...wanted.v6, neighbourSolicitation(OURS)];

void t.test('a guest with both families', async (t) => {
  t.strictSame(await passed(t, bridged, {}, all), hex([...wanted.v4, ...wanted.v6]));
});

void t.test('a guest whose router we made up', async (t) => {
  const options = { router6: neighbour };
  const frames = [...wanted.v4, ...wanted.v6, neighbourSolicitation(OURS)];
  t.strictSame(await passed(t, bridged, options, all), hex(frames));
});

void t.test('a guest with one family', async (t) => {
  t.strictSame(await passed(t, ipv4Guest, {}, all), hex(wanted.v4));
  t.strictSame(await passed(t, ipv6Guest, {}, all), hex(wanted.v6));
});

void t.test('a guest whose gateway is the node: ARP requests for it as well', async (t) => {
  const arp = (operation: string, target: string): Buffer =>
    Buffer.from(
      `ffffffffffff5254001234560806000108000604${operation}5254001234560a010203000000000000${target}`,
      'hex',
    );
  const [request, reply] = [arp('0001', 'a9fe0101'), arp('0002', 'a9fe0101')];
  const frames = [reply, arp('0001', 'a9fe0102'), request, discover];
  const node = { nodeMac: 'fe:54:00:12:34:56' };
  t.strictSame(await passed(t, routed, node, frames), hex([request, discover]));
  t.strictSame(await passed(t, routed, {}, frames), hex([discover]), 'not elsewhere');
});
