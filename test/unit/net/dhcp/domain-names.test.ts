import fc from 'fast-check';
import t from 'tap';
import {
  encodeDomainNames,
  encodeFittingDomainNames,
  isDomainName,
} from '../../../../src/net/dhcp/domain-names.ts';

const label = fc.string({ unit: fc.constantFrom('a', 'b', 'c', '-', '1'), minLength: 1, maxLength: 63 });
const name = fc
  .array(label, { minLength: 1, maxLength: 5 })
  .map((labels) => labels.join('.'))
  .filter(isDomainName);

void t.test('names come back, compressed or not', (t) => {
  fc.assert(
    fc.property(
      fc.array(name, { maxLength: 12 }),
      fc.constantFrom('compressed', 'plain'),
      (names, compression) => {
        const bytes = encodeDomainNames(names, compression);
        if (JSON.stringify(readNames(bytes)) !== JSON.stringify(names))
          throw new Error(String(readNames(bytes)));
        if (compression === 'plain' && bytes.length !== names.reduce((sum, one) => sum + one.length + 2, 0)) {
          throw new Error('compressed');
        }
      },
    ),
  );
  t.equal(encodeDomainNames(['a.example.org', 'b.EXAMPLE.org'], 'compressed').length, 15 + 2 + 2);
  t.end();
});

void t.test('as many as fit', (t) => {
  const names = ['a.example', 'b.example', 'c.example'];
  t.strictSame(readNames(encodeFittingDomainNames(names, 'plain', 32)), names.slice(0, 2));
  t.strictSame(readNames(encodeFittingDomainNames(names, 'plain', 33)), names);
  t.equal(encodeFittingDomainNames(names, 'plain', 10).length, 0);
  t.equal(encodeFittingDomainNames([], 'plain', -1).length, 0);
  t.end();
});

void t.test('what is a name', (t) => {
  for (const good of ['cluster.local', 'cluster.local.', 'a', 'x'.repeat(63), '_tcp.example'])
    t.ok(isDomainName(good), good);
  for (const bad of ['', '.', 'a..b', '.a', 'x'.repeat(64), 'a b', 'ä.de', Array(64).fill('abc').join('.')]) {
    t.notOk(isDomainName(bad), bad);
  }
  t.end();
});

/** RFC 1035, section 4.1.4. */
function readNames(bytes: Uint8Array): string[] {
  const names: string[] = [];
  for (let at = 0; at < bytes.length;) {
    const labels: string[] = [];
    let end: number | undefined;
    while (bytes[at] !== 0) {
      const length = bytes[at]!;
      if (length >= 0xc0) {
        end ??= at + 2;
        at = ((length & 0x3f) << 8) | bytes[at + 1]!;
      } else {
        labels.push(Buffer.from(bytes.subarray(at + 1, at + 1 + length)).toString());
        at += 1 + length;
      }
    }
    names.push(labels.join('.'));
    at = end ?? at + 1;
  }
  return names;
}
