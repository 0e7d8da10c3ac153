/** What reaches a guarded guest: its DHCP server and router are our responder, whoever else says to be one. */
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { openTapNic } from '../../src/net/attach-nic.ts';
import { RESPONDER_MARK } from '../../src/net/delivery-filter.ts';
import { assembleBpf } from '../../src/net/dhcp/bpf-program.ts';
import { openPacketSocket } from '../../src/host/packet-socket.ts';
import type { GuestInterface, TapAttachment } from '../../src/net/guest-network.ts';
import { FakeGuest } from '../support/fake-guest.ts';
import {
  BROADCAST,
  checksum,
  ethernet,
  fragment,
  icmp6Packet,
  IPV4,
  ipv4,
  IPV6,
  ipv6,
  udp,
} from '../support/frames.ts';
import { networkLab } from '../support/network-lab.ts';

const lab = networkLab();
const bridge: TapAttachment = { kind: 'bridge', bridge: 'br0' };
await lab.ip(undefined, 'link add br0 type bridge mcast_snooping 0', 'link set br0 up');

const ROGUE = '02:00:00:00:00:0f';
const data = Buffer.from('data');
const advert = icmp6Packet('fe80::bad', 'ff02::1', 134, Buffer.alloc(12));
const v4 = (ports: readonly [number, number], header?: (packet: Buffer) => Buffer): Buffer => {
  const packet = ipv4('10.7.0.66', '255.255.255.255', 17, udp(...ports, data));
  return ethernet(BROADCAST, ROGUE, IPV4, header === undefined ? packet : header(packet));
};
const v6 = (packet: Buffer): Buffer => ethernet('33:33:00:00:00:01', ROGUE, IPV6, packet);
/** An extension header of 8 bytes, or 16 with what else is in it. */
const extension = (next: number, units = 0): Buffer =>
  Buffer.concat([Buffer.from([next, units, 1, 4 + 8 * units]), Buffer.alloc(4 + 8 * units)]);
/** A message behind headers of these kinds. */
const behind = (kinds: readonly number[], last: number, message: Buffer, units = 0): Buffer => {
  const headers = kinds.map((_, i) => extension(kinds[i + 1] ?? last, units));
  return v6(ipv6('fe80::bad', 'ff02::1', kinds[0] ?? last, Buffer.concat([...headers, message])));
};
const advertMessage = advert.subarray(40);
const reply6 = udp(547, 546, data);

/** With what the checksum of its header becomes; a bridge may look at it. */
const summed = (packet: Buffer): Buffer => {
  const header = packet.subarray(0, (packet[0]! & 15) * 4);
  header.writeUInt16BE(0, 10);
  header.writeUInt16BE(checksum(header), 10);
  return packet;
};
const withOptions = (packet: Buffer): Buffer => {
  const longer = Buffer.concat([packet.subarray(0, 20), Buffer.from([1, 1, 1, 0]), packet.subarray(20)]);
  longer[0] = 0x46;
  longer.writeUInt16BE(longer.length, 2);
  return summed(longer);
};
const firstFragment = (packet: Buffer): Buffer => {
  const copy = Buffer.from(packet);
  copy[6] = 0x20;
  return summed(copy);
};

const unwanted: readonly (readonly [string, Buffer])[] = [
  ['DHCP offer', v4([67, 68])],
  ['DHCP offer from another port', v4([1067, 68])],
  ['DHCP offer with IP options', v4([67, 68], withOptions)],
  ['DHCP offer in fragments', v4([67, 68], firstFragment)],
  ['router advertisement', v6(advert)],
  ['router advertisement behind an option', behind([0], 58, advertMessage)],
  ['router advertisement behind a long option', behind([60], 58, advertMessage, 3)],
  ['router advertisement behind many', behind([0, 60, 43, 60, 60], 58, advertMessage)],
  ['router advertisement behind more than anybody sends', behind(Array(9).fill(60), 58, advertMessage)],
  [
    'router advertisement in fragments',
    v6(ipv6('fe80::bad', 'ff02::1', 44, fragment(58, 0, true, advertMessage))),
  ],
  ['DHCPv6 reply', behind([], 17, reply6)],
  ['DHCPv6 reply behind an option', behind([60], 17, reply6)],
  ['DHCPv6 reply in fragments', v6(ipv6('2001:db8::66', 'fe80::5', 44, fragment(17, 0, true, reply6)))],
];

const wanted: readonly (readonly [string, Buffer])[] = [
  ['UDP', v4([67, 69])],
  ['UDP with IP options', v4([1000, 2000], withOptions)],
  [
    'a TCP segment to port 68',
    ethernet(BROADCAST, ROGUE, IPV4, ipv4('10.7.0.66', '10.7.0.5', 6, udp(1, 68, data))),
  ],
  ['an echo request', v6(icmp6Packet('fe80::bad', 'ff02::1', 128, data))],
  ['UDP behind options', behind([0, 60], 17, udp(547, 1000, data))],
  ['a fragment', v6(ipv6('2001:db8::66', '2001:db8::5', 44, fragment(17, 8, false, data)))],
  ['another protocol', ethernet(BROADCAST, ROGUE, 0x88b5, Buffer.alloc(46))],
  ['no next header', behind([60], 59, Buffer.alloc(0))],
];

const marker = ethernet(BROADCAST, ROGUE, 0x88b6, Buffer.from('marker'));

function guestOf(mac: string): GuestInterface {
  return { ifName: 'eth0', mac, mtu: 1500, addresses: [], routes: [], dns: { nameservers: [], search: [] } };
}

for (const guard of [false, true]) {
  void t.test(guard ? 'a guarded guest' : 'a guest without a guard', async (t) => {
    const options = { queues: 2, uid: 12345, guard };
    const nic = { tap: 'vta', attachment: bridge, guest: guestOf('02:00:00:00:00:0a'), bandwidth: undefined };
    using tap = await openTapNic(lab, nic, options);
    using others = await openTapNic(
      lab,
      { tap: 'vto', attachment: bridge, guest: guestOf(ROGUE), bandwidth: undefined },
      { ...options, guard: false },
    );
    const [guest, rogue] = [new FakeGuest(tap), new FakeGuest(others)];
    const seen = async (frame: Buffer, comes: boolean): Promise<Buffer[]> => {
      rogue.send(frame);
      rogue.send(marker);
      // Either may be in either queue; a busy kernel delivers later than it takes, in the order that they were sent.
      const frames: Buffer[] = [];
      const has = (wanted: Buffer): boolean => frames.some((one) => one.equals(wanted));
      while (!has(marker) || (comes && !has(frame))) {
        frames.push(...guest.received());
        await turn();
      }
      frames.push(...guest.received());
      return frames.filter((one) => !one.equals(marker));
    };
    for (const [what, frame] of unwanted) t.same(await seen(frame, !guard), guard ? [] : [frame], what);
    for (const [what, frame] of wanted) t.same(await seen(frame, true), [frame], what);

    using responder = openPacketSocket(lab.native, {
      ifName: 'vta',
      filter: assembleBpf([{ return: 0 }]),
      mark: RESPONDER_MARK,
      budget: { frames: 1, windowMs: 1000 },
      onFrame: () => undefined,
    });
    const own = v6(advert);
    t.ok(responder.send(own));
    t.same(await guest.receivedBefore(own), [], 'what the responder says comes through');
  });
}
