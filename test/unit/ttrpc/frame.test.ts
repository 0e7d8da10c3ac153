import fc from 'fast-check';
import t from 'tap';
import { type DecodedFrame, encodeFrame, FrameDecoder, MAX_DATA_LENGTH } from '../../../src/ttrpc/frame.ts';

const plain = (frames: DecodedFrame[]): unknown[] =>
  frames.map((f) => (f.kind === 'frame' ? { ...f, data: Buffer.from(f.data).toString('hex') } : f));

function decode(chunks: Uint8Array[], maxDataLength = MAX_DATA_LENGTH): unknown[] {
  const decoder = new FrameDecoder({ maxDataLength });
  return plain(chunks.flatMap((chunk) => decoder.push(chunk)));
}

void t.test('a frame is ten bytes of header and its data', (t) => {
  t.equal(
    encodeFrame(0x01020305, 3, 5, Buffer.from('hi')).toString('hex'),
    '00000002' + '01020305' + '03' + '05' + '6869',
  );
  t.equal(encodeFrame(1, 3, 5).toString('hex'), '00000000' + '00000001' + '03' + '05');
  t.same(decode([Buffer.from('000000020102030503056869', 'hex')]), [
    { kind: 'frame', streamId: 0x01020305, type: 3, flags: 5, data: '6869' },
  ]);
  t.same(decode([Uint8Array.from(encodeFrame(0xffffffff, 255, 255))]), [
    { kind: 'frame', streamId: 0xffffffff, type: 255, flags: 255, data: '' },
  ]);
  t.end();
});

void t.test('frames survive a split at every byte offset', (t) => {
  const bytes = Buffer.concat([
    encodeFrame(1, 1, 0, Buffer.from('first')),
    encodeFrame(3, 3, 5),
    encodeFrame(5, 2, 0, Buffer.alloc(40, 7)),
    encodeFrame(7, 3, 1, Buffer.from('x')),
  ]);
  // With a limit of 30 the third frame is oversize.
  for (const limit of [MAX_DATA_LENGTH, 30]) {
    const whole = decode([bytes], limit);
    t.equal(whole.length, 4);
    for (let at = 0; at <= bytes.length; at += 1) {
      t.same(decode([bytes.subarray(0, at), bytes.subarray(at)], limit), whole, `split at ${at}`);
    }
    t.same(
      decode(
        [...bytes].map((byte) => Uint8Array.of(byte)),
        limit,
      ),
      whole,
      'single bytes',
    );
  }
  t.end();
});

void t.test('any frames in any chunks come out as they went in', (t) => {
  const frame = fc.record({
    streamId: fc.nat(0xffffffff),
    type: fc.nat(255),
    flags: fc.nat(255),
    data: fc.uint8Array({ maxLength: 60 }),
  });
  fc.assert(
    fc.property(
      fc.array(frame),
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }),
      (frames, sizes) => {
        const limit = 50;
        const bytes = Buffer.concat(frames.map((f) => encodeFrame(f.streamId, f.type, f.flags, f.data)));
        const chunks: Buffer[] = [];
        for (let at = 0, n = 0; at < bytes.length; n += 1) {
          const size = sizes[n % sizes.length]!;
          chunks.push(bytes.subarray(at, at + size));
          at += size;
        }
        const expected = frames.map(({ data, ...header }) =>
          data.length > limit
            ? { kind: 'oversize', ...header, length: data.length }
            : { kind: 'frame', ...header, data: Buffer.from(data).toString('hex') },
        );
        t.same(decode(chunks, limit), expected);
      },
    ),
    { numRuns: 200 },
  );
  t.end();
});

void t.test('no bytes make the decoder throw', (t) => {
  const garbage = fc.property(fc.array(fc.uint8Array({ maxLength: 100 })), (chunks) => {
    const decoder = new FrameDecoder();
    for (const chunk of chunks) decoder.push(chunk);
  });
  t.doesNotThrow(() => fc.assert(garbage));
  t.end();
});

void t.test('an oversize frame is reported at once and takes no memory', (t) => {
  const decoder = new FrameDecoder();
  const header = Buffer.from('40000000' + '00000009' + '01' + '02', 'hex');
  t.same(decoder.push(header), [{ kind: 'oversize', streamId: 9, type: 1, flags: 2, length: 1 << 30 }]);
  const chunk = Buffer.alloc(64 << 10);
  const before = process.memoryUsage().arrayBuffers;
  for (let sent = 0; sent < 1 << 30; sent += chunk.length) {
    if (decoder.push(chunk).length > 0) t.fail('a frame out of discarded data');
  }
  t.ok(process.memoryUsage().arrayBuffers - before < 4 << 20, 'nothing was kept');
  t.same(plain(decoder.push(encodeFrame(11, 3, 0, Buffer.from('ok')))), [
    { kind: 'frame', streamId: 11, type: 3, flags: 0, data: '6f6b' },
  ]);
  t.end();
});

void t.test('the limit of 4 MiB is inclusive on both sides', (t) => {
  const most = encodeFrame(1, 1, 0, Buffer.alloc(MAX_DATA_LENGTH));
  t.equal(new FrameDecoder().push(most)[0]?.kind, 'frame');
  most.writeUInt32BE(MAX_DATA_LENGTH + 1, 0);
  t.equal(new FrameDecoder().push(most)[0]?.kind, 'oversize');
  t.throws(() => encodeFrame(1, 1, 0, Buffer.alloc(MAX_DATA_LENGTH + 1)), {
    name: 'VmError',
    kind: 'ResourceExhausted',
  });
  t.end();
});
