import t from 'tap';
import { deriveMac, parseMac } from '../../../../src/net/cni/guest-mac.ts';
import { tapMac, tapName } from '../../../../src/net/tap-name.ts';

const UID = '3b1c6f2a-8a43-4f0e-9c1d-5d2f0e7a9b11';

void t.test('names and addresses never change, or running VMs would lose theirs by an upgrade', (t) => {
  t.equal(tapName(UID, 'eth0'), 'vt1fei093esu7qn');
  t.equal(deriveMac(UID, 'eth0'), '52:d6:8a:ad:44:7f');
  t.end();
});

void t.test('TAP names fit IFNAMSIZ and are distinct', (t) => {
  const names = new Set<string>();
  for (let i = 0; i < 20_000; i++) {
    const name = tapName(`pod-${i >> 2}`, `net${i & 3}`);
    if (!/^vt[0-9a-z]{13}$/.test(name)) t.fail(name);
    names.add(name);
  }
  t.equal(names.size, 20_000);
  t.not(tapName('a/b', 'c'), tapName('a', 'b'));
  t.end();
});

void t.test('MAC addresses are locally administered and differ by pod and NIC', (t) => {
  const macs = new Set(
    ['a', 'b', 'c'].flatMap((pod) => ['eth0', 'net1'].map((ifName) => deriveMac(pod, ifName))),
  );
  t.equal(macs.size, 6);
  for (const mac of macs) {
    t.match(mac, /^52(:[0-9a-f]{2}){5}$/);
    t.equal(parseMac(mac), mac);
  }
  t.end();
});

void t.test('a hundred thousand NICs of one network have an address each', (t) => {
  const macs = new Set(Array.from({ length: 100_000 }, (_, i) => deriveMac(`pod-${i}`, 'eth0')));
  t.equal(macs.size, 100_000, '24 bits would have made some 300 clashes');
  t.end();
});

void t.test('the TAP’s own address is unicast, above the guest’s and not the same', (t) => {
  for (const mac of ['52:54:00:12:34:56', 'fe:54:00:12:34:56', '02:00:00:00:00:01']) {
    const own = tapMac(mac);
    t.equal(parseMac(own), own);
    t.not(own, mac);
    t.equal(own.slice(2), mac.slice(2));
  }
  t.equal(tapMac('52:54:00:12:34:56'), 'fe:54:00:12:34:56');
  t.end();
});

void t.test('MAC addresses that no NIC can have are refused', (t) => {
  t.equal(parseMac('52:54:00:AB:CD:EF'), '52:54:00:ab:cd:ef');
  for (const text of [
    '',
    '52:54:00:ab:cd',
    '52-54-00-ab-cd-ef',
    '01:00:5e:00:00:01',
    'ff:ff:ff:ff:ff:ff',
    '00:00:00:00:00:00',
  ]) {
    t.equal(parseMac(text), undefined, text);
  }
  t.end();
});
