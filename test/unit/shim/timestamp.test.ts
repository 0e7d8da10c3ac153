import fc from 'fast-check';
import t from 'tap';
import { timestamp } from '../../../src/shim/timestamp.ts';

void t.test('milliseconds as google.protobuf.Timestamp', (t) => {
  t.same(timestamp(0), { seconds: 0, nanos: 0 });
  t.same(timestamp(1700000000123), { seconds: 1700000000, nanos: 123_000_000 });
  t.same(timestamp(1999.9999999), { seconds: 1, nanos: 999_999_999 }, 'a second has no more nanoseconds');
  fc.assert(
    fc.property(fc.double({ min: 0, max: 4e12, noNaN: true }), (ms) => {
      const { seconds, nanos } = timestamp(ms);
      return (
        Number.isInteger(nanos) &&
        nanos >= 0 &&
        nanos < 1e9 &&
        Math.abs(seconds * 1000 + nanos / 1e6 - ms) < 0.001
      );
    }),
  );
  t.end();
});
