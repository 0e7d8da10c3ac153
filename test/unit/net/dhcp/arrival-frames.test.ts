import t from 'tap';
import { arrivalFrames } from '../../../../src/net/dhcp/arrival-frames.ts';
import { bridged, routed } from './guests.ts';
import { GUEST_MAC, readFrame } from './wire.ts';

const hex = (frame: Uint8Array): string => Buffer.from(frame).toString('hex');
const GUEST = '525400123456';
/** To all, of a guest: Ethernet, IPv4, six bytes, four bytes, request. */
const REQUEST = `${'f'.repeat(12)}${GUEST}0806` + '0001080006040001';
const [IP, GATEWAY, NO_MAC] = ['0a010203', '0a010201', '0'.repeat(12)];

void t.test('a guest with a gateway of each family', (t) => {
  const [announced, asked, asked6, ...more] = arrivalFrames(bridged);
  t.equal(hex(announced!), `${REQUEST}${GUEST}${IP}${NO_MAC}${IP}`, 'RFC 5227: sender and target are one');
  t.equal(hex(asked!), `${REQUEST}${GUEST}${IP}${NO_MAC}${GATEWAY}`);
  const { payload, ...question } = readFrame(asked6!);
  t.match(question, {
    ...{ from: GUEST_MAC, to: '33:33:ff:00:00:01', hops: 255, protocol: 58 },
    source: 'fd000001000000000000000000000005',
    destination: 'ff0200000000000000000001ff000001',
  });
  t.equal(hex(payload.subarray(0, 2)), '8700');
  const body = `00000000fd0000010000000000000000000000010101${GUEST}`;
  t.equal(hex(payload.subarray(4)), body, 'the target, and whose question it is');
  t.strictSame(more, []);
  t.end();
});

void t.test('a gateway of several routes is asked for once, and may be outside every network', (t) => {
  const frames = arrivalFrames(routed);
  t.equal(frames.length, 3);
  t.equal(hex(frames[1]!), `${REQUEST}${GUEST}${IP}${NO_MAC}a9fe0101`);
  const { source, payload } = readFrame(frames[2]!);
  t.equal(source, 'fd000001000000000000000000000005');
  t.equal(hex(payload.subarray(8, 24)), 'fe800000000000000000000000000001');
  t.end();
});

void t.test('each gateway is asked by the address that is in its network', (t) => {
  const frames = arrivalFrames({
    ...bridged,
    addresses: [
      { address: '10.1.2.3', prefixLength: 24, gateway: undefined },
      { address: '10.7.0.9', prefixLength: 16, gateway: undefined },
    ],
    routes: [
      { destination: '10.1.0.0/16', gateway: undefined },
      { destination: '0.0.0.0/0', gateway: '10.7.0.1' },
    ],
  });
  t.equal(frames.length, 3);
  t.equal(hex(frames[2]!), `${REQUEST}${GUEST}0a070009${NO_MAC}0a070001`);
  t.end();
});

void t.test('a guest without addresses has nothing to say', (t) => {
  t.strictSame(arrivalFrames({ ...bridged, addresses: [], routes: [] }), []);
  t.end();
});
