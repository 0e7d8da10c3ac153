import fc from 'fast-check';
import t from 'tap';
import { MARK_BYTES, parseMarks, renderMark, type RootMark } from '../../../src/storage/root-mark.ts';

const identity = { fingerprint: 'ab'.repeat(16), fileBytes: 17_301_504, mtime: 1_700_000_000 };
const filling: RootMark = { state: 'filling', virtualSize: 2 ** 30, done: 0, identity, format: 'qcow2' };

/** A volume's front after some marks. */
function written(...marks: RootMark[]): Buffer {
  const front = Buffer.alloc(MARK_BYTES);
  for (const [sequence, mark] of marks.entries()) {
    const { bytes, at } = renderMark(mark, sequence);
    bytes.copy(front, at);
  }
  return front;
}

void t.test('the last whole mark counts', (t) => {
  t.same(parseMarks(Buffer.alloc(MARK_BYTES), 'v'), { kind: 'none' });
  t.same(parseMarks(Buffer.from('a partition table'.padEnd(MARK_BYTES, 'x')), 'v'), { kind: 'none' });
  const half = { ...filling, done: 2 ** 29 };
  const filled = { ...filling, done: 2 ** 30, state: 'filled' } as const;
  t.same(parseMarks(written(filling), 'v'), { kind: 'mark', mark: filling, sequence: 0 });
  t.same(parseMarks(written(filling, half, filled), 'v'), { kind: 'mark', mark: filled, sequence: 2 });
  t.end();
});

void t.test('a write that was cut off anywhere leaves the mark before it', (t) => {
  const marks = Array.from({ length: 5 }, (_, i): RootMark => ({ ...filling, done: i * 2 ** 20 }));
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 4 }), fc.integer({ min: 0, max: 4095 }), (last, cut) => {
      const before = written(...marks.slice(0, last));
      const { bytes, at } = renderMark(marks[last] ?? filling, last);
      bytes.copy(before, at, 0, cut);
      const found = parseMarks(before, 'v');
      if (last > 0) return found.kind === 'mark' && found.mark.done === marks[last - 1]?.done;
      // Of the very first mark something may be there, but nobody's data.
      return cut < 17 ? found.kind === 'none' : found.kind === 'begun';
    }),
  );
  t.end();
});

void t.test('what was filled is never taken for blank', (t) => {
  const front = written(filling, { ...filling, done: 2 ** 30, state: 'filled' });
  front[100] = 0xff;
  front[4196] = 0xff;
  t.throws(() => parseMarks(front, 'volume /dev/x'), {
    kind: 'FailedPrecondition',
    message: /mark at the front of volume \/dev\/x is damaged/,
  });
  t.end();
});

void t.test('any bytes give an answer or a sentence', (t) => {
  const later = { ...filling, virtualSize: -1 } as RootMark;
  t.throws(() => parseMarks(written(later), 'v'), { kind: 'FailedPrecondition', message: /later version/ });
  fc.assert(
    fc.property(fc.uint8Array({ minLength: MARK_BYTES, maxLength: MARK_BYTES }), (bytes) => {
      return parseMarks(Buffer.from(bytes), 'v').kind === 'none';
    }),
    { numRuns: 20 },
  );
  t.end();
});
