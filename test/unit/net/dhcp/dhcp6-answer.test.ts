import t from 'tap';
import { answerFrame } from '../../../../src/net/dhcp/answer-frame.ts';
import { planGuestLease } from '../../../../src/net/dhcp/guest-lease.ts';
import type { GuestInterface } from '../../../../src/net/guest-network.ts';
import { bridged } from './guests.ts';
import { dhcp6, GUEST_MAC, readDhcp6, readFrame, readTlv, text, udp6Frame } from './wire.ts';

const CLIENT = [1, '00010001aabbccdd5254001234'] as const;
const SERVER = [2, '0003000102766d000001'] as const;
const OUR_ADDRESS = 'fd000001000000000000000000000005';
const OTHER_ADDRESS = 'fd000002000000000000000000000005';
const FOREVER = 'ffffffff';

type Options = readonly (readonly [number, string])[];

const iaNa = (id: string, ...addresses: string[]) =>
  [3, id + '00000e10' + '00001518' + addresses.map((a) => `00050018${a}0000000000000000`).join('')] as const;
const iaPd = [25, '00000001' + '00000000' + '00000000'] as const;

function ask(type: number, options: Options, guest: GuestInterface = bridged) {
  const answer = answerFrame(planGuestLease(guest), udp6Frame(dhcp6(type, options)));
  if (answer.frame === undefined) return { kind: answer.kind, options: new Map<number, string>() };
  const frame = readFrame(answer.frame);
  const reply = readDhcp6(frame.payload);
  return { kind: answer.kind, frame, reply, options: new Map(reply.options) };
}

const given = (id: string): string => `${id}${FOREVER}${FOREVER}00050018${OUR_ADDRESS}${FOREVER}${FOREVER}`;

void t.test('SOLICIT is advertised everything, and the client need not wait for others', (t) => {
  const { kind, frame, reply, options } = ask(1, [CLIENT, iaNa('00123456'), [6, '00170018']]);
  t.equal(kind, 'advertise');
  t.match(frame, {
    to: GUEST_MAC,
    source: 'fe8000000000000000766dfffe000001',
    destination: 'fe80000000000000505400fffe123456',
    ports: [547, 546],
  });
  t.match(reply, { type: 2, transaction: 'aabbcc' });
  t.strictSame([...options.keys()], [1, 2, 7, 3, 23, 24]);
  t.equal(options.get(1), CLIENT[1]);
  t.equal(options.get(2), SERVER[1]);
  t.equal(options.get(7), 'ff');
  t.equal(options.get(3), given('00123456'));
  t.equal(options.get(23), 'fd00009600000000000000000000000a');
  t.equal(
    text(options.get(24)),
    '\x07default\x03svc\x07cluster\x05local\0\x03svc\x07cluster\x05local\0\x07cluster\x05local\0',
    'not compressed',
  );
  t.end();
});

void t.test('REQUEST, RENEW and REBIND are replied to', (t) => {
  for (const [type, server] of [
    [3, [SERVER]],
    [5, [SERVER]],
    [6, []],
  ] as const) {
    const { kind, reply, options } = ask(type, [CLIENT, ...server, iaNa('00000001', OUR_ADDRESS)]);
    t.equal(kind, 'reply');
    t.equal(reply?.type, 7);
    t.equal(options.get(3), given('00000001'));
  }
  t.end();
});

void t.test('rapid commit', (t) => {
  const { reply, options } = ask(1, [CLIENT, [14, ''], iaNa('00000001')]);
  t.equal(reply?.type, 7);
  t.equal(options.get(14), '');
  t.equal(options.get(3), given('00000001'));
  t.end();
});

void t.test('an address of another pod loses its time', (t) => {
  const { options } = ask(6, [CLIENT, iaNa('00000001', OTHER_ADDRESS)]);
  t.equal(options.get(3), `${given('00000001')}00050018${OTHER_ADDRESS}0000000000000000`);
  t.end();
});

void t.test('CONFIRM says whether all addresses are ours', (t) => {
  const status = (...addresses: string[]) => ask(4, [CLIENT, iaNa('00000001', ...addresses)]).options.get(13);
  t.equal(status(OUR_ADDRESS), '0000');
  t.equal(status(OUR_ADDRESS, OTHER_ADDRESS)?.slice(0, 4), '0004');
  t.equal(ask(4, [CLIENT, iaNa('00000001')]).kind, 'malformed', 'nothing to confirm, no answer');
  t.end();
});

void t.test('only one association gets addresses, and none gets a prefix', (t) => {
  const { reply } = ask(1, [CLIENT, iaPd, iaNa('00000001'), iaNa('00000002')]);
  const [pd, first, second] = reply!.options.filter(([code]) => code === 3 || code === 25);
  t.strictSame(first, [3, given('00000001')]);
  for (const [refused, status] of [
    [pd, '0006'],
    [second, '0002'],
  ] as const) {
    t.equal(refused![1].slice(8, 24), '0'.repeat(16));
    t.match(readTlv(Buffer.from(refused![1].slice(24), 'hex')), [[13, new RegExp(`^${status}`)]]);
  }
  t.end();
});

void t.test('several addresses are given together', (t) => {
  const second = { address: 'fd00:2::5', prefixLength: 64, gateway: undefined };
  const { options } = ask(1, [CLIENT, iaNa('00000001')], {
    ...bridged,
    addresses: [...bridged.addresses, second],
  });
  t.equal(options.get(3), `${given('00000001')}00050018${OTHER_ADDRESS}${FOREVER}${FOREVER}`);
  t.end();
});

void t.test('INFORMATION-REQUEST, with and without a client identifier', (t) => {
  for (const client of [[CLIENT], []] as const) {
    const { reply } = ask(11, [...client, [6, '0017']]);
    t.equal(reply?.type, 7);
    t.strictSame(
      reply?.options.map(([code]) => code),
      [...client.map(() => 1), 2, 23, 24],
    );
  }
  t.equal(ask(11, [CLIENT, iaNa('00000001')]).kind, 'malformed');
  t.end();
});

void t.test('RELEASE and DECLINE end well, so that the guest’s way down is short', (t) => {
  for (const type of [8, 9]) {
    const { reply, options } = ask(type, [CLIENT, SERVER, iaNa('00000001', OUR_ADDRESS)]);
    t.equal(reply?.type, 7);
    t.equal(options.get(13), '0000');
  }
  t.end();
});

void t.test('what is not for us or no request is left alone', (t) => {
  const kind = (type: number, options: Options): string => ask(type, options).kind;
  const otherServer = [2, '0003000102766d000009'] as const;
  t.equal(kind(3, [CLIENT, otherServer, iaNa('00000001')]), 'not-ours');
  t.equal(kind(3, [CLIENT, iaNa('00000001')]), 'malformed', 'REQUEST without server');
  t.equal(kind(1, [CLIENT, SERVER, iaNa('00000001')]), 'malformed', 'SOLICIT with server');
  t.equal(kind(1, [iaNa('00000001')]), 'malformed', 'SOLICIT without client');
  t.equal(kind(12, [CLIENT]), 'malformed', 'a relay');
  t.equal(kind(7, [CLIENT, SERVER]), 'malformed', 'a reply');
  t.equal(kind(1, [CLIENT, [3, '0011']]), 'malformed', 'a short IA_NA');
  t.equal(
    kind(1, [CLIENT, [3, '000000010000000000000000' + '0005000200aa']]),
    'malformed',
    'a short address',
  );

  const lease = planGuestLease(bridged);
  const solicit = dhcp6(1, [CLIENT, iaNa('00000001')]);
  t.equal(answerFrame(lease, udp6Frame(solicit, { from: '52:54:00:12:34:57' })).kind, 'not-ours');
  t.equal(
    answerFrame(lease, udp6Frame(solicit, { source: OUR_ADDRESS })).kind,
    'malformed',
    'not link-local',
  );
  t.equal(answerFrame(lease, udp6Frame(solicit.subarray(0, 3))).kind, 'malformed');
  const ipv4Only = {
    ...bridged,
    addresses: bridged.addresses.slice(0, 1),
    routes: bridged.routes.slice(0, 1),
  };
  t.equal(answerFrame(planGuestLease(ipv4Only), udp6Frame(solicit)).kind, 'not-ours');
  t.end();
});
