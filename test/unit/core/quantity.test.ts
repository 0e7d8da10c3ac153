import fc from 'fast-check';
import t from 'tap';
import { formatBytes, parseQuantity } from '../../../src/core/quantity.ts';

void t.test('quantities as Kubernetes writes them', (t) => {
  const cases: [string, number | undefined][] = [
    ['0', 0],
    ['536870912', 536870912],
    ['512Mi', 512 * 2 ** 20],
    ['1.5Gi', 1.5 * 2 ** 30],
    ['1.Ki', 1024],
    ['2G', 2e9],
    ['4Ti', 4 * 2 ** 40],
    ['1k', 1000],
    ['1e9', 1e9],
    ['1E3', 1000],
    ['2E', undefined],
    ['15e-1', 2],
    ['128974848000m', 128974848],
    ['1m', 1],
    ['0.1Ki', 103],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
    ['9007199254740992', undefined],
    ['8Ei', undefined],
    ['', undefined],
    ['Mi', undefined],
    ['-1', undefined],
    ['+1', undefined],
    ['1 Gi', undefined],
    ['1gi', undefined],
    ['1K', undefined],
    ['1MiB', undefined],
    ['0x10', undefined],
    ['1e', undefined],
    ['NaN', undefined],
    ['Infinity', undefined],
    ['1\n', undefined],
    [`1${'0'.repeat(40)}`, undefined],
  ];
  for (const [text, bytes] of cases) t.equal(parseQuantity(text), bytes, JSON.stringify(text));
  t.end();
});

void t.test('what is formatted is read back, and any text gives a number or nothing', (t) => {
  fc.assert(fc.property(fc.maxSafeNat(), (bytes) => parseQuantity(formatBytes(bytes)) === bytes));
  fc.assert(
    fc.property(fc.nat(1e6), fc.constantFrom(1, 10, 20, 30), (n, power) => {
      const bytes = n * 2 ** power;
      return parseQuantity(formatBytes(bytes)) === bytes;
    }),
  );
  fc.assert(
    fc.property(fc.string(), (text) => {
      const bytes = parseQuantity(text);
      return bytes === undefined || (Number.isSafeInteger(bytes) && bytes >= 0);
    }),
  );
  t.equal(formatBytes(512 * 2 ** 20), '512Mi');
  t.equal(formatBytes(3 * 2 ** 30), '3Gi');
  t.equal(formatBytes(1000), '1000');
  t.end();
});
