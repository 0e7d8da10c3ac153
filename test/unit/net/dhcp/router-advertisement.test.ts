import t from 'tap';
import { answerFrame } from '../../../../src/net/dhcp/answer-frame.ts';
import { planGuestLease, type LeaseOptions } from '../../../../src/net/dhcp/guest-lease.ts';
import { neighborAdvertisement, routerAdvertisement } from '../../../../src/net/dhcp/router-advertisement.ts';
import type { GuestInterface } from '../../../../src/net/guest-network.ts';
import { bridged, neighbour, routed } from './guests.ts';
import { type Frame, GUEST_MAC, icmp6Frame, readFrame, readNdOptions, text } from './wire.ts';

const GUEST = 'fe80000000000000505400fffe123456';
const OURS = 'fe8000000000000000766dfffe000001';
const ALL_NODES = 'ff020000000000000000000000000001';
const FOREVER = 'ffffffff';
const solicitation = (frame: Frame = {}) => icmp6Frame(133, Buffer.alloc(4), frame);

function advertise(guest: GuestInterface, options: LeaseOptions = {}, frame: Frame = {}) {
  const lease = planGuestLease(guest, options);
  const answer = answerFrame(lease, solicitation(frame));
  const read = readFrame(answer.frame!);
  return {
    omissions: lease.omissions,
    frame: read,
    header: read.payload.subarray(4, 16).toString('hex'),
    options: readNdOptions(read.payload.subarray(16)),
  };
}

const header = (lifetime: string): string => `40c0${lifetime}0000000000000000`;
const padded = (value: string, bytes: number): string => value.padEnd(bytes * 2, '0');

void t.test('a link-local gateway is the router itself', (t) => {
  const { frame, header: found, options, omissions } = advertise(routed);
  t.match(frame, {
    to: GUEST_MAC,
    destination: GUEST,
    source: 'fe80' + '0'.repeat(27) + '1',
    hops: 255,
    protocol: 58,
  });
  t.strictSame([frame.payload[0], frame.payload[1]], [134, 0]);
  t.equal(found, header('ffff'), 'managed, other, the longest lifetime');
  t.strictSame(options.slice(0, 3), [
    [5, '0000000005aa'],
    [24, `3000${FOREVER}${padded('fd0000090000', 16)}`],
    [25, `0000${FOREVER}fd00009600000000000000000000000a`],
  ]);
  const [type, search] = options[3]!;
  t.equal(type, 31);
  t.match(text(search), '\x07default\x03svc\x07cluster\x05local\0\x03svc');
  t.equal(options.length, 4, 'no prefix: there are no neighbours');
  t.strictSame(omissions, []);
  t.end();
});

void t.test('a subnet is on-link and never used to make up addresses', (t) => {
  const { options } = advertise(bridged, { router6: neighbour });
  t.strictSame(options[1], [3, `4080${FOREVER}${FOREVER}00000000${padded('fd000001', 16)}`]);
  t.end();
});

void t.test('a gateway that is a neighbour gets a link-local address of ours, and is asked for', (t) => {
  const { frame, header: found, options } = advertise(bridged, { router6: neighbour });
  t.equal(frame.source, OURS);
  t.equal(found, header('ffff'));
  t.notOk(
    options.some(([type]) => type === 1),
    'its MAC address is nobody’s to tell but its own',
  );

  const lease = planGuestLease(bridged, { router6: neighbour });
  const ask = (target: string, more: Frame = {}) =>
    answerFrame(lease, icmp6Frame(135, Buffer.from('00000000' + target + '0101525400123456', 'hex'), more));
  t.match(ask(OURS, { source: GUEST }), { kind: 'gateway-asked', asker: Buffer.from(GUEST, 'hex') });
  t.equal(ask('fe80' + '0'.repeat(26) + '42').kind, 'not-ours', 'somebody else');
  t.equal(ask(OURS, { source: '0'.repeat(32) }).kind, 'not-ours', 'duplicate address detection');
  t.equal(answerFrame(lease, icmp6Frame(135, Buffer.alloc(9))).kind, 'malformed');
  t.equal(
    answerFrame(planGuestLease(bridged), icmp6Frame(135, Buffer.from('00000000' + OURS, 'hex'))).kind,
    'not-ours',
  );

  const mac = Buffer.from('020000000099', 'hex');
  const answer = neighborAdvertisement(lease, lease.v6!, Buffer.from(GUEST, 'hex'), mac);
  t.equal(answer.kind, 'neighbor-advertisement');
  const advertisement = readFrame(answer.frame!);
  t.match(advertisement, { to: GUEST_MAC, source: OURS, destination: GUEST, hops: 255 });
  t.equal(advertisement.payload.subarray(4).toString('hex'), `e0000000${OURS}0201020000000099`);
  t.end();
});

void t.test('a gateway of which nothing is known: an address, no default route, and a word about it', (t) => {
  const { frame, header: found, options, omissions } = advertise(bridged);
  t.equal(frame.source, OURS);
  t.equal(found, header('0000'));
  t.notOk(options.some(([type]) => type === 1 || type === 24));
  t.match(omissions, [
    /^1 IPv6 route.* of eth0 .*no link-local address of the gateway is known, nor a link to ask for it$/,
  ]);
  t.end();
});

void t.test(
  'routes of another gateway than the default route’s are left out, on-link ones are prefixes',
  (t) => {
    const routes = [
      { destination: 'fd00:7::/48', gateway: 'fe80::7' },
      { destination: 'fd00:8::/48', gateway: undefined },
      { destination: 'fe80::/64', gateway: undefined },
      { destination: 'ff00::/8', gateway: undefined },
      ...routed.routes,
    ];
    const { options, omissions } = advertise({ ...routed, routes });
    t.strictSame(
      options.filter(([type]) => type === 3 || type === 24),
      [
        [3, `3080${FOREVER}${FOREVER}00000000${padded('fd0000080000', 16)}`],
        [24, `3000${FOREVER}${padded('fd0000090000', 16)}`],
      ],
    );
    t.match(omissions, [/another gateway/]);
    t.end();
  },
);

void t.test('a solicitation from no address is answered to all nodes', (t) => {
  const { frame } = advertise(bridged, {}, { source: '0'.repeat(32) });
  t.match(frame, { to: '33:33:00:00:00:01', destination: ALL_NODES });
  const lease = planGuestLease(bridged);
  t.equal(readFrame(routerAdvertisement(lease, lease.v6!)).destination, ALL_NODES);
  t.end();
});

void t.test('an advertisement fits into the MTU, whatever the pod has', (t) => {
  const search = Array.from({ length: 32 }, (_, i) => `${'abcdefghij'.repeat(5)}.example-${i}.org`);
  const routes = Array.from({ length: 50 }, (_, i) => [
    { destination: `fd00:${i}::/32`, gateway: 'fe80::1' },
    { destination: `fd01:${i}::/32`, gateway: undefined },
  ]).flat();
  const guest = {
    ...routed,
    mtu: 1280,
    routes: [...routed.routes, ...routes],
    dns: { ...routed.dns, search },
  };
  const { frame, options, omissions } = advertise(guest);
  t.ok(40 + frame.payload.length <= 1280);
  t.equal(options.filter(([type]) => type === 3).length, 16);
  t.equal(options.filter(([type]) => type === 24).length, 16);
  t.match(omissions, [/at most 16/]);
  t.end();
});

void t.test('what is no solicitation is left alone', (t) => {
  const lease = planGuestLease(bridged);
  t.equal(answerFrame(lease, solicitation({ hops: 64 })).kind, 'malformed', 'it came over a router');
  t.equal(answerFrame(lease, icmp6Frame(134, Buffer.alloc(12))).kind, 'malformed', 'an advertisement');
  t.equal(answerFrame(lease, solicitation({ from: '52:54:00:12:34:57' })).kind, 'not-ours');
  const ipv4Only = { ...bridged, addresses: bridged.addresses.slice(0, 1), routes: [] };
  t.equal(answerFrame(planGuestLease(ipv4Only), solicitation()).kind, 'not-ours');
  t.end();
});
