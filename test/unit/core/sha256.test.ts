import { createHash } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { sha256 } from '../../../src/core/sha256.ts';

const expected = (text: string): string => createHash('sha256').update(text).digest('hex');

void t.test('it is SHA-256', (t) => {
  t.equal(
    sha256('abc'),
    'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    'FIPS 180-4, B.1',
  );
  // Every length around the padding's edges, where a block more is needed.
  for (let length = 0; length <= 200; length++) {
    const text = 'x'.repeat(length);
    if (sha256(text) !== expected(text)) t.fail(`${length} bytes`);
  }
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (text) => sha256(text) === expected(text)),
  );
  t.end();
});
