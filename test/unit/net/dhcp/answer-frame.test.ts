import fc from 'fast-check';
import t from 'tap';
import { answerFrame } from '../../../../src/net/dhcp/answer-frame.ts';
import { planGuestLease } from '../../../../src/net/dhcp/guest-lease.ts';
import { parseGuestPacket } from '../../../../src/net/dhcp/guest-packet.ts';
import { macText } from '../../../support/frames.ts';
import { bridged, neighbour, routed } from './guests.ts';
import {
  BROADCAST_MAC,
  dhcp4,
  dhcp6,
  GUEST_MAC,
  icmp6Frame,
  readFrame,
  udp4Frame,
  udp6Frame,
} from './wire.ts';

/** MAC address of a TAP. */
const NODE = 'fe:54:00:12:34:56';
const leases = [planGuestLease(bridged, { router6: neighbour }), planGuestLease(routed, { nodeMac: NODE })];
const RECIPIENTS = [GUEST_MAC, BROADCAST_MAC, '33:33:00:00:00:01'];

const CLIENT = [1, '00030001525400123456'] as const;
const requests = [
  udp4Frame(
    dhcp4({
      options: [
        [53, '01'],
        [55, '0103067779'],
        [57, '05dc'],
        [61, '01525400123456'],
      ],
    }),
  ),
  udp4Frame(
    dhcp4({
      ciaddr: '10.1.2.3',
      options: [
        [53, '03'],
        [50, '0a010203'],
      ],
    }),
  ),
  udp6Frame(dhcp6(1, [CLIENT, [3, '000000010000000000000000']])),
  udp6Frame(
    dhcp6(4, [
      CLIENT,
      [3, '000000010000000000000000' + '00050018fd000001000000000000000000000005' + '0'.repeat(16)],
    ]),
  ),
  icmp6Frame(133, Buffer.from('000000000101525400123456', 'hex')),
];
const question = icmp6Frame(135, Buffer.from('00000000' + 'fe8000000000000000766dfffe000001', 'hex'));

const whole = fc.constantFrom(...requests, question, arpRequest());
const damaged = fc
  .tuple(whole, fc.array(fc.tuple(fc.nat(600), fc.nat(255)), { maxLength: 8 }), fc.nat(600))
  .map(([frame, changes, length]) => {
    const bytes = Buffer.from(frame);
    for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
    return bytes.subarray(0, length < bytes.length ? length : bytes.length);
  });

void t.test('each of these requests is answered', (t) => {
  for (const request of requests) t.ok(answerFrame(leases[0]!, request).frame);
  t.match(answerFrame(leases[0]!, question), { kind: 'gateway-asked' });
  t.end();
});

void t.test('whatever the bytes are: no exception, a sound frame or none, for the guest alone', (t) => {
  let answered = 0;
  fc.assert(
    fc.property(
      fc.oneof(damaged, fc.uint8Array({ maxLength: 400 })),
      fc.constantFrom(...leases),
      (bytes, lease) => {
        const before = Buffer.from(bytes);
        const { kind, frame } = answerFrame(lease, bytes);
        if (!before.equals(bytes)) throw new Error('the request was changed');
        if (frame === undefined) return;
        answered += 1;
        const to = kind === 'arp-reply' ? macText(frame.subarray(0, 6)) : readFrame(frame).to;
        if (!RECIPIENTS.includes(to)) throw new Error(`an answer to ${to}`);
        if (frame.length > 14 + lease.mtu) throw new Error(`an answer of ${frame.length} bytes`);
        if (!before.subarray(6, 12).equals(Buffer.from(lease.mac)))
          throw new Error('an answer to another station');
      },
    ),
    { numRuns: 5000 },
  );
  t.ok(answered > 500, `${answered} of them were answered`);
  t.end();
});

void t.test('no other station is answered, whatever it says', (t) => {
  let asked = 0;
  fc.assert(
    fc.property(whole, fc.uint8Array({ minLength: 6, maxLength: 6 }), (frame, mac) => {
      fc.pre(!Buffer.from(mac).equals(Buffer.from(leases[0]!.mac)));
      const bytes = Buffer.from(frame);
      bytes.set(mac, 6);
      if (answerFrame(leases[0]!, bytes).kind !== 'not-ours') throw new Error('answered');
      asked += 1;
    }),
  );
  t.ok(asked > 50);
  t.end();
});

void t.test('fragments, options and lengths of the IP headers', (t) => {
  const discover = requests[0]!;
  const changed = (at: number, ...bytes: number[]): Buffer => {
    const copy = Buffer.from(discover);
    copy.set(bytes, at);
    return copy;
  };
  t.ok(parseGuestPacket(discover));
  t.ok(parseGuestPacket(changed(20, 0x40, 0)), 'don’t fragment');
  t.notOk(parseGuestPacket(changed(20, 0x20, 0)), 'more fragments');
  t.notOk(parseGuestPacket(changed(20, 0, 1)), 'a later fragment');
  t.notOk(parseGuestPacket(changed(16, 0xff, 0xff)), 'a total length beyond the end');
  t.notOk(parseGuestPacket(changed(14, 0x44)), 'a header too short');
  t.notOk(parseGuestPacket(changed(38, 0, 7)), 'a UDP length too short');
  const padded = Buffer.concat([discover, Buffer.alloc(60)]);
  const unpadded = parseGuestPacket(padded);
  t.equal(unpadded?.kind === 'udp' && unpadded.payload.length, discover.length - 42, 'padding is no payload');
  const withOption = Buffer.concat([
    changed(14, 0x46).subarray(0, 34),
    Buffer.from([1, 1, 1, 0]),
    discover.subarray(34),
  ]);
  withOption.writeUInt16BE(discover.length - 14 + 4, 16);
  t.match(parseGuestPacket(withOption), { kind: 'udp', destinationPort: 67 });
  t.end();
});

/** Of the guest, at its address; 42 bytes without padding. */
function arpRequest(target = 'a9fe0101', mac = '525400123456'): Buffer {
  const hex = `ffffffffffff${mac}08060001080006040001${mac}0a010203000000000000${target}`;
  return Buffer.from(hex, 'hex');
}

void t.test('a routed guest hears that the node has its gateway’s address', (t) => {
  const lease = planGuestLease(routed, { nodeMac: NODE });
  const answer = answerFrame(lease, arpRequest());
  t.equal(answer.kind, 'arp-reply');
  const guest = '525400123456';
  t.equal(
    answer.frame?.toString('hex'),
    `${guest}fe540012345608060001080006040002fe5400123456a9fe0101${guest}0a010203`,
  );
  t.equal(answerFrame(lease, arpRequest('0a010203')).kind, 'not-ours', 'is its own address free?');
  t.equal(answerFrame(lease, arpRequest('a9fe0101', '525400123457')).kind, 'not-ours');
  t.equal(answerFrame(lease, arpRequest().subarray(0, 41)).kind, 'malformed');
  t.equal(answerFrame(lease, answer.frame!).kind, 'malformed', 'an answer is no request');
  t.equal(answerFrame(planGuestLease(routed), arpRequest()).kind, 'not-ours', 'on a bridge');
  t.end();
});
