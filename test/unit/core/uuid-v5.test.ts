import { createHash } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { formatUuid, sha1, uuidV5 } from '../../../src/core/uuid-v5.ts';

void t.test('SHA-1 is SHA-1 for every length around the block borders', (t) => {
  const expected = (data: Uint8Array): string => createHash('sha1').update(data).digest('hex');
  for (let length = 0; length < 200; length++) {
    const data = new Uint8Array(length).fill(length);
    if (Buffer.from(sha1(data)).toString('hex') !== expected(data)) t.fail(`length ${length}`);
  }
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 300 }),
      (data) => Buffer.from(sha1(data)).toString('hex') === expected(data),
    ),
  );
  t.end();
});

void t.test('the UUID of RFC 9562, appendix A.4', (t) => {
  const dns = Uint8Array.from(Buffer.from('6ba7b8109dad11d180b400c04fd430c8', 'hex'));
  t.equal(formatUuid(uuidV5(dns, 'www.example.com')), '2ed6657d-e927-568b-95e1-2665a8aea6a2');
  t.end();
});
