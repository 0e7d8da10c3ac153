import t from 'tap';
import { answerFrame } from '../../../../src/net/dhcp/answer-frame.ts';
import { planGuestLease } from '../../../../src/net/dhcp/guest-lease.ts';
import type { GuestInterface } from '../../../../src/net/guest-network.ts';
import { bridged, routed } from './guests.ts';
import {
  BROADCAST_MAC,
  type Dhcp4,
  dhcp4,
  GUEST_MAC,
  readDhcp4,
  readFrame,
  text,
  udp4Frame,
} from './wire.ts';

const DISCOVER = [53, '01'] as const;
const REQUEST = [53, '03'] as const;
const OUR_SERVER = [54, '0a010201'] as const;
const OUR_ADDRESS = '0a010203';

function ask(message: Dhcp4, guest: GuestInterface = bridged, hostname = 'web-0') {
  const answer = answerFrame(planGuestLease(guest, { hostname }), udp4Frame(dhcp4(message)));
  if (answer.frame === undefined) return { kind: answer.kind };
  const frame = readFrame(answer.frame);
  return { kind: answer.kind, frame, reply: readDhcp4(frame.payload) };
}

void t.test('DISCOVER is offered everything', (t) => {
  const { kind, frame, reply } = ask({ options: [DISCOVER, [55, '01031a']] });
  t.equal(kind, 'offer');
  t.match(frame, {
    to: GUEST_MAC,
    from: '02:76:6d:00:00:01',
    source: '10.1.2.1',
    destination: '10.1.2.3',
    ports: [67, 68],
    hops: 64,
  });
  t.match(reply, {
    transaction: '11223344',
    broadcast: false,
    ciaddr: '0.0.0.0',
    yiaddr: '10.1.2.3',
    chaddr: GUEST_MAC,
  });
  t.strictSame(
    [...reply!.options].filter(([code]) => code !== 119),
    [
      [53, '02'],
      OUR_SERVER,
      [51, 'ffffffff'],
      [1, 'ffffff00'],
      [3, '0a010201'],
      [6, '0a60000a0a60000b'],
      [26, '05aa'],
      [12, Buffer.from('web-0').toString('hex')],
      [15, Buffer.from('default.svc.cluster.local').toString('hex')],
    ],
  );
  // RFC 1035: labels, and pointers into what came before ("svc.cluster.local" is at 8, "cluster.local" at 12).
  t.equal(text(reply!.options.get(119)), '\x07default\x03svc\x07cluster\x05local\0\xc0\x08\xc0\x0c');
  t.end();
});

void t.test('the broadcast flag is obeyed until the client has an address', (t) => {
  const offer = ask({ broadcast: true, options: [DISCOVER] });
  t.match(offer.frame, { to: BROADCAST_MAC, destination: '255.255.255.255' });
  t.equal(offer.reply?.broadcast, true);
  const renewal = ask({ broadcast: true, ciaddr: '10.1.2.3', options: [REQUEST] });
  t.match(renewal, {
    kind: 'ack',
    frame: { to: GUEST_MAC, destination: '10.1.2.3' },
    reply: { ciaddr: '10.1.2.3' },
  });
  t.end();
});

void t.test('REQUEST in each of the client’s states', (t) => {
  const kinds = (message: Dhcp4): string => ask(message).kind;
  t.equal(kinds({ options: [REQUEST, OUR_SERVER, [50, OUR_ADDRESS]] }), 'ack', 'selecting us');
  t.equal(
    kinds({ options: [REQUEST, [54, '0a010202'], [50, OUR_ADDRESS]] }),
    'not-ours',
    'selecting another server',
  );
  t.equal(
    kinds({ options: [REQUEST, OUR_SERVER, [50, '0a010204']] }),
    'nak',
    'selecting what was not offered',
  );
  t.equal(kinds({ options: [REQUEST, [50, OUR_ADDRESS]] }), 'ack', 'rebooting');
  t.equal(kinds({ options: [REQUEST, [50, 'c0a80005']] }), 'nak', 'rebooting from a disk of another pod');
  t.equal(kinds({ ciaddr: '10.1.2.3', options: [REQUEST] }), 'ack', 'renewing or rebinding');
  t.equal(kinds({ ciaddr: '10.1.2.9', options: [REQUEST] }), 'nak', 'renewing another address');
  t.equal(kinds({ options: [REQUEST] }), 'malformed', 'asking for nothing');
  t.equal(kinds({ options: [REQUEST, [50, '0a01']] }), 'malformed', 'asking for half an address');
  t.end();
});

void t.test('a refusal is broadcast and says nothing but why', (t) => {
  const { frame, reply } = ask({ ciaddr: '10.1.2.9', options: [REQUEST, [61, '01aabb']] });
  t.match(frame, { to: BROADCAST_MAC, destination: '255.255.255.255' });
  t.match(reply, { ciaddr: '0.0.0.0', yiaddr: '0.0.0.0' });
  t.strictSame([...reply!.options.keys()], [53, 54, 61, 56]);
  t.equal(reply?.options.get(53), '06');
  t.end();
});

void t.test('INFORM gets the configuration without a lease', (t) => {
  const { kind, frame, reply } = ask({ ciaddr: '10.1.2.77', options: [[53, '08']] });
  t.equal(kind, 'inform-ack');
  t.match(frame, { to: GUEST_MAC, destination: '10.1.2.77' });
  t.match(reply, { yiaddr: '0.0.0.0', ciaddr: '10.1.2.77' });
  t.notOk(reply?.options.has(51));
  t.equal(reply?.options.get(6), '0a60000a0a60000b');
  t.equal(ask({ options: [[53, '08']] }).kind, 'malformed');
  t.end();
});

void t.test('RELEASE and DECLINE are heard and not answered', (t) => {
  t.strictSame(ask({ ciaddr: '10.1.2.3', options: [[53, '07'], OUR_SERVER] }), { kind: 'released' });
  t.strictSame(ask({ options: [[53, '04'], OUR_SERVER, [50, OUR_ADDRESS]] }), { kind: 'declined' });
  t.end();
});

void t.test('rapid commit, and the client identifier that has to come back', (t) => {
  const { kind, reply } = ask({ options: [DISCOVER, [80, ''], [61, 'ff00112233']] });
  t.equal(kind, 'ack');
  t.equal(reply?.options.get(53), '05');
  t.equal(reply?.options.get(80), '');
  t.equal(reply?.options.get(61), 'ff00112233');
  t.end();
});

void t.test('a gateway outside the subnet is made reachable before it is used', (t) => {
  const routes = '20a9fe0101' + '00000000' + '00a9fe0101' + '110a6300a9fe0101';
  const { frame, reply } = ask({ options: [DISCOVER, [55, '79f9']] }, routed);
  t.equal(frame?.source, '169.254.1.1');
  t.equal(reply?.options.get(1), 'ffffffff');
  t.equal(reply?.options.get(3), 'a9fe0101');
  t.equal(reply?.options.get(121), routes);
  const microsoft = ask({ options: [DISCOVER, [55, '0103f9']] }, routed);
  t.equal(microsoft.reply?.options.get(249), routes);
  t.notOk(microsoft.reply?.options.has(121));
  t.end();
});

void t.test('on-link routes and several gateways', (t) => {
  const guest: GuestInterface = {
    ...bridged,
    routes: [
      { destination: '172.16.0.0/12', gateway: '192.168.9.9' },
      { destination: '0.0.0.0/0', gateway: '10.1.2.1' },
      { destination: '192.168.9.0/24', gateway: undefined },
      { destination: '10.5.0.0/16', gateway: '0.0.0.0' },
    ],
  };
  t.equal(
    ask({ options: [DISCOVER] }, guest).reply?.options.get(121),
    '18c0a80900000000' + '100a0500000000' + '0cac10c0a80909' + '000a010201',
  );
  t.end();
});

void t.test('an interface with neither gateway, DNS nor names', (t) => {
  const guest = { ...bridged, routes: [], dns: { nameservers: [], search: [] } };
  const lease = planGuestLease(guest);
  const answer = answerFrame(lease, udp4Frame(dhcp4({ options: [DISCOVER] })));
  const frame = readFrame(answer.frame!);
  t.equal(frame.source, '169.254.0.67');
  t.strictSame([...readDhcp4(frame.payload).options.keys()], [53, 54, 51, 1, 26]);
  t.end();
});

void t.test('an answer fits into what the client takes, whatever search list the pod has', (t) => {
  const search = Array.from({ length: 32 }, (_, i) => `${'abcdefghij'.repeat(5)}.n${i}.example-${i}.org`);
  const guest = { ...bridged, dns: { ...bridged.dns, search } };
  const small = ask({ options: [DISCOVER] }, guest);
  t.ok(28 + small.frame!.payload.length <= 576, 'the size that every client takes');
  const large = ask({ options: [DISCOVER, [57, '05dc']] }, guest);
  t.ok(28 + large.frame!.payload.length <= 1450, 'the MTU, where the client takes more');
  const domains = (reply: typeof small.reply): number =>
    (text(reply!.options.get(119)).match(/abcdefghij{1}/g)?.length ?? 0) / 5;
  t.ok(domains(small.reply) >= 2 && domains(small.reply) < domains(large.reply));
  t.ok(domains(large.reply) < 32);
  for (const { reply } of [small, large]) t.equal(reply?.options.get(6), '0a60000a0a60000b');
  t.end();
});

void t.test('what is not ours or no DHCP is left alone', (t) => {
  const discover = dhcp4({ options: [DISCOVER] });
  const lease = planGuestLease(bridged);
  const kind = (payload: Uint8Array, frame = {}): string =>
    answerFrame(lease, udp4Frame(payload, frame)).kind;
  t.equal(kind(discover), 'offer');
  t.equal(kind(discover, { from: '52:54:00:12:34:57' }), 'not-ours', 'another MAC address');
  t.equal(kind(dhcp4({ chaddr: '52:54:00:12:34:57', options: [DISCOVER] })), 'not-ours', 'another client');
  t.equal(kind(dhcp4({ giaddr: '10.0.0.9', options: [DISCOVER] })), 'not-ours', 'a relay');
  t.equal(kind(discover, { port: 68 }), 'not-ours', 'another port');
  t.equal(kind(dhcp4({ op: 2, options: [DISCOVER] })), 'malformed', 'a reply');
  t.equal(kind(dhcp4({ options: [[53, '02']] })), 'malformed', 'an offer');
  t.equal(kind(dhcp4({ options: [] })), 'malformed', 'BOOTP');
  t.equal(kind(discover.subarray(0, 239)), 'malformed', 'cut short');
  t.equal(
    kind(Buffer.concat([discover.subarray(0, 243), Buffer.from([50, 200])])),
    'malformed',
    'an option too long',
  );
  const ipv6Only = { ...bridged, addresses: bridged.addresses.slice(1), routes: bridged.routes.slice(1) };
  t.equal(answerFrame(planGuestLease(ipv6Only), udp4Frame(discover)).kind, 'not-ours');
  t.end();
});
