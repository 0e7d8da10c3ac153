import { isIP } from 'node:net';
import t from 'tap';
import {
  canonicalIp,
  ipFamily,
  maxPrefix,
  networkOf,
  parsePrefix,
} from '../../../../src/net/cni/ip-address.ts';

void t.test('every way to write an address becomes one text', (t) => {
  const texts: Record<string, string> = {
    '10.1.0.5': '10.1.0.5',
    '0.0.0.0': '0.0.0.0',
    '255.255.255.255': '255.255.255.255',
    '::': '::',
    '::1': '::1',
    'FD00:0:0:1:0:0:0:5': 'fd00:0:0:1::5',
    'fd00::0:0:0005': 'fd00::5',
    '1:0:0:2:0:0:0:3': '1:0:0:2::3',
    '1:0:0:2:3:0:0:4': '1::2:3:0:0:4',
    '1:0:2:3:4:5:6:7': '1:0:2:3:4:5:6:7',
    '1::': '1::',
    '::ffff:10.0.0.1': '::ffff:a00:1',
    '1:2:3:4:5:6:10.0.0.1': '1:2:3:4:5:6:a00:1',
  };
  for (const [text, canonical] of Object.entries(texts)) {
    t.equal(canonicalIp(text), canonical, text);
    t.equal(canonicalIp(canonical), canonical);
    // What the platform takes for an address, as a second opinion.
    t.equal(isIP(text), ipFamily(canonical), text);
  }
  t.end();
});

void t.test('what is no address is not taken for one', (t) => {
  for (const text of [
    ...['', '10.1.0', '10.1.0.256', '10.1.0.05', '10.1.0.5 ', '0x0a.1.0.5', '1.2.3.4.5'],
    ...[
      ':',
      ':::',
      '1::2::3',
      '1:2:3:4:5:6:7',
      '1:2:3:4:5:6:7:8:9',
      '1:2:3:4:5:6:7::8',
      'g::1',
      'fe80::1%eth0',
    ],
    ...['12345::', '1:2:3:4:5:6:7:10.0.0.1', '::10.0.0.1:1', ':1:2:3:4:5:6:7', '1:2:3:4:5:6:7:'],
  ]) {
    t.equal(canonicalIp(text), undefined, text);
    t.equal(isIP(text) !== 0 && !/%|::8$/.test(text), false, text);
  }
  t.end();
});

void t.test('prefixes', (t) => {
  t.same(parsePrefix('10.1.0.5/24'), { address: '10.1.0.5', prefixLength: 24, text: '10.1.0.5/24' });
  t.same(parsePrefix('FD00::5/64')?.text, 'fd00::5/64');
  t.same(parsePrefix('0.0.0.0/0')?.prefixLength, 0);
  for (const text of [
    '10.1.0.5',
    '10.1.0.5/33',
    'fd00::/129',
    '10.1.0.5/-1',
    '10.1.0.5/',
    '/24',
    '10.1.0.5/24/1',
  ]) {
    t.equal(parsePrefix(text), undefined, text);
  }
  const networks = ['10.1.7.5/20', '10.1.7.5/32', '10.1.7.5/0', 'fd00:1:2:3:4:5:6:7/52', 'fd00::5/128'];
  t.same(
    networks.map((text) => networkOf(parsePrefix(text)!)),
    ['10.1.0.0/20', '10.1.7.5/32', '0.0.0.0/0', 'fd00:1:2::/52', 'fd00::5/128'],
  );
  t.same([maxPrefix('10.0.0.1'), maxPrefix('::1')], [32, 128]);
  t.end();
});
