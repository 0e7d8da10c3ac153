import t from 'tap';
import protobuf from '../../../proto/protobuf-runtime.ts';
import { io } from '#wire-metrics';
import { containerd, google, vmshim } from '#wire';

const { BootstrapParams, LogLevel } = containerd.runtime.bootstrap.v1;
const { MemoryEntry } = io.containerd.cgroups.v1;
const { Timestamp } = google.protobuf;

const hex = (writer: { finish(): Uint8Array }): string => Buffer.from(writer.finish()).toString('hex');

void t.test('a negative enum value takes ten bytes and comes back', (t) => {
  const trace = BootstrapParams.encode({ logLevel: LogLevel.LOG_LEVEL_TRACE });
  t.equal(hex(trace), '18f8ffffffffffffffff01');
  t.equal(
    BootstrapParams.decode(Buffer.from('18fcffffffffffffffff01', 'hex')).logLevel,
    LogLevel.LOG_LEVEL_DEBUG,
  );
  t.end();
});

void t.test('an enum value that nobody declared is kept', (t) => {
  t.equal(BootstrapParams.decode(Buffer.from('18faffffffffffffffff01', 'hex')).logLevel, -6);
  t.end();
});

void t.test('a negative int64 comes back', (t) => {
  // Go's zero time.
  const year1 = { seconds: -62_135_596_800, nanos: 999_999_999 };
  t.equal(hex(Timestamp.encode(year1)), '08809 2b8c398feffffff01 10ff93ebdc03'.replaceAll(' ', ''));
  t.match(Timestamp.decode(Timestamp.encode(year1).finish()), year1);
  t.equal(Timestamp.decode(Buffer.from('0880808080808080808001', 'hex')).seconds, -(2 ** 63));
  t.end();
});

void t.test('a uint64 is a number: exact up to 2^53, the nearest double above', (t) => {
  for (const value of [0, 1, 2 ** 32, 2 ** 53 - 1, 2 ** 53 + 2, 2 ** 63 - 4096, 2 ** 63]) {
    t.equal(MemoryEntry.decode(MemoryEntry.encode({ limit: value }).finish()).limit, value);
  }
  t.equal(MemoryEntry.decode(Buffer.from('0881808080808080 10'.replaceAll(' ', ''), 'hex')).limit, 2 ** 53);
  t.end();
});

void t.test('a cgroup’s "max", 2^64 - 1, survives being read and written', (t) => {
  const max = '08ffffffffffffffffff01';
  const entry = MemoryEntry.decode(Buffer.from(max, 'hex'));
  t.equal(entry.limit, 2 ** 64);
  t.equal(hex(MemoryEntry.encode(entry)), max);
  t.equal(hex(MemoryEntry.encode({ limit: Number.POSITIVE_INFINITY })), max);
  t.end();
});

void t.test('an absent 64-bit field is the number 0', (t) => {
  t.equal(MemoryEntry.decode(new Uint8Array()).limit, 0);
  t.equal(vmshim.control.v1.StatusResponse.decode(new Uint8Array()).createdAtMs, 0);
  t.end();
});

void t.test('every 64-bit type reads as a number although the package `long` is installed', (t) => {
  t.ok(import.meta.resolve('long'));
  const bytes = protobuf.Writer.create().int64(-3).uint64(4).sint64(-5).fixed64(6).sfixed64(-7).finish();
  const reader = protobuf.Reader.create(bytes);
  t.same(
    [reader.int64(), reader.uint64(), reader.sint64(), reader.fixed64(), reader.sfixed64()].map(Number),
    [-3, 4, -5, 6, -7],
  );
  t.equal(typeof protobuf.Reader.create(bytes).int64(), 'number');
  t.end();
});
