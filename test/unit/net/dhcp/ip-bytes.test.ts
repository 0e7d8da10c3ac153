import { isIPv4, isIPv6, SocketAddress } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import {
  contains,
  ipv4Mask,
  isLinkLocalIpv6,
  parseCidr,
  parseIp,
} from '../../../../src/net/dhcp/ip-bytes.ts';

const hex = (bytes: Uint8Array | undefined): string | undefined =>
  bytes === undefined ? undefined : Buffer.from(bytes).toString('hex');

void t.test('addresses in all their texts', (t) => {
  t.equal(hex(parseIp('10.1.2.3')), '0a010203');
  t.equal(hex(parseIp('::')), '0'.repeat(32));
  t.equal(hex(parseIp('fd00::1')), 'fd00' + '0'.repeat(27) + '1');
  t.equal(hex(parseIp('::ffff:10.1.2.3')), '0'.repeat(20) + 'ffff0a010203');
  t.equal(hex(parseIp('1:2:3:4:5:6:7:8')), '00010002000300040005000600070008');
  t.equal(hex(parseIp('1:2:3:4:5:6:7::')), '00010002000300040005000600070000');
  t.equal(isLinkLocalIpv6(parseIp('febf::1')!), true);
  t.equal(isLinkLocalIpv6(parseIp('fec0::1')!), false);
  t.end();
});

void t.test('reads what Node reads, and as the same address', (t) => {
  let compared = 0;
  const digit = fc.constantFrom(...'0123456789abcdefF:.'.split(''));
  const text = fc.oneof(fc.ipV4(), fc.ipV6(), fc.string({ unit: digit, maxLength: 20 }));
  fc.assert(
    fc.property(text, (address) => {
      const bytes = parseIp(address);
      const valid = isIPv4(address) || isIPv6(address);
      if ((bytes !== undefined) !== valid) throw new Error(`Node says ${valid}`);
      if (bytes?.length !== 16) return;
      const groups = Buffer.from(bytes).toString('hex').match(/.{4}/g)!.join(':');
      const same = (one: string): string => new SocketAddress({ address: one, family: 'ipv6' }).address;
      if (same(groups) !== same(address)) throw new Error(`read as ${groups}`);
      compared += 1;
    }),
    { numRuns: 2000 },
  );
  t.ok(compared > 100);
  t.end();
});

void t.test('prefixes', (t) => {
  const prefix = parseCidr('10.1.2.3/20');
  t.equal(hex(prefix?.network), '0a010000');
  t.equal(contains(prefix!, parseIp('10.1.15.255')!), true);
  t.equal(contains(prefix!, parseIp('10.1.16.0')!), false);
  t.equal(contains(prefix!, parseIp('::')!), false);
  t.equal(contains(parseCidr('0.0.0.0/0')!, parseIp('1.2.3.4')!), true);
  for (const text of ['10.0.0.0/33', '::/129', '10.0.0.0', '10.0.0.0/', '/8', '10.0.0/8', '10.0.0.0/-1']) {
    t.equal(parseCidr(text), undefined, text);
  }
  t.equal(hex(ipv4Mask(0)), '00000000');
  t.equal(hex(ipv4Mask(25)), 'ffffff80');
  t.end();
});
