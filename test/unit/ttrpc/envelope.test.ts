import fc from 'fast-check';
import protobuf from 'protobufjs';
import t from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import {
  decodeRequest,
  decodeResponse,
  encodeRequestFrame,
  encodeResponseFrame,
  type Request,
} from '../../../src/ttrpc/envelope.ts';
import { HEADER_LENGTH } from '../../../src/ttrpc/frame.ts';

// A second opinion on every byte: the same messages by protobufjs.
const { root } = protobuf.parse(`
  syntax = "proto3";
  message Request {
    string service = 1; string method = 2; bytes payload = 3; int64 timeout_nano = 4; repeated KeyValue metadata = 5;
  }
  message KeyValue { string key = 1; string value = 2; }
  message Response { Status status = 1; bytes payload = 2; }
  message Status { int32 code = 1; string message = 2; repeated bytes details = 3; }
  message Strange {
    fixed64 a = 9; fixed32 b = 10; string c = 11; int64 d = 12; string service = 1; repeated double e = 13;
  }
`);
const oracle = (name: string): protobuf.Type => root.lookupType(name);

const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const requests: fc.Arbitrary<Request> = fc.record({
  service: fc.string({ unit: 'binary' }),
  method: fc.string(),
  payload: fc.uint8Array({ maxLength: 300 }),
  timeoutNano: fc.oneof(fc.constant(0n), int64),
  metadata: fc
    .array(
      fc.tuple(fc.stringMatching(/^[a-z-]{0,8}$/), fc.array(fc.string({ maxLength: 200 }), { minLength: 1 })),
    )
    .map((pairs) => new Map(pairs)),
});

const comparable = (request: Request): unknown => ({
  ...request,
  payload: Buffer.from(request.payload).toString('hex'),
  metadata: [...request.metadata],
});
const body = (frame: Buffer): Buffer => frame.subarray(HEADER_LENGTH);

void t.test('a request is what the specification says, byte by byte', (t) => {
  const bytes =
    '0a03732e54' + // 1: "s.T"
    '120447657449' + // 2: "GetI"
    '1a020801' + // 3: 08 01
    '2080a8d6b907' + // 4: 2_000_000_000 ns
    '2a0a' + // 5: a pair of 10 bytes
    '0a026e73' + // 5.1: "ns"
    '12046b38732e'; // 5.2: "k8s."
  const request: Request = {
    service: 's.T',
    method: 'GetI',
    payload: Uint8Array.of(8, 1),
    timeoutNano: 2_000_000_000n,
    metadata: new Map([['ns', ['k8s.']]]),
  };
  t.same(comparable(decodeRequest(Buffer.from(bytes, 'hex'))), comparable(request));
  const frame = encodeRequestFrame(5, 2, request);
  t.equal(frame.toString('hex'), '00000021' + '00000005' + '01' + '02' + bytes);
  t.end();
});

void t.test('a negative timeout has ten bytes', (t) => {
  const request = decodeRequest(Buffer.from('20ffffffffffffffffff01', 'hex'));
  t.equal(request.timeoutNano, -1n);
  t.end();
});

void t.test('requests round-trip and agree with protobufjs', (t) => {
  fc.assert(
    fc.property(requests, (request) => {
      const bytes = body(encodeRequestFrame(1, 0, request));
      t.same(comparable(decodeRequest(bytes)), comparable(request));
      const pairs = [...request.metadata].flatMap(([key, values]) => values.map((value) => ({ key, value })));
      const decoded = oracle('Request').toObject(oracle('Request').decode(bytes), {
        longs: String,
        bytes: Array,
        defaults: true,
      });
      t.same(decoded, {
        service: request.service,
        method: request.method,
        payload: [...request.payload],
        timeoutNano: String(request.timeoutNano),
        metadata: pairs,
      });
    }),
    { numRuns: 100 },
  );
  t.end();
});

void t.test('keys of metadata are lower case and keep all their values', (t) => {
  const metadata = [
    { key: 'A-Key', value: '1' },
    { key: 'b', value: '' },
    { key: 'a-key', value: '2' },
  ];
  const bytes = oracle('Request').encode(oracle('Request').fromObject({ metadata })).finish();
  t.same(
    [...decodeRequest(bytes).metadata],
    [
      ['a-key', ['1', '2']],
      ['b', ['']],
    ],
  );
  t.end();
});

void t.test('responses agree with protobufjs', (t) => {
  const bytes = body(
    encodeResponseFrame(1, { status: { code: 5, message: 'näh' }, payload: Uint8Array.of(1) }),
  );
  t.same(oracle('Response').toObject(oracle('Response').decode(bytes), { bytes: Array }), {
    status: { code: 5, message: 'näh' },
    payload: [1],
  });
  const withDetails = oracle('Response')
    .encode({ status: { code: -7, message: 'm', details: [Buffer.from('detail')] } })
    .finish();
  t.same(decodeResponse(withDetails), { status: { code: -7, message: 'm' }, payload: Buffer.alloc(0) });
  const empty = encodeResponseFrame(3, { status: undefined, payload: Buffer.alloc(0) });
  t.equal(empty.toString('hex'), '00000000' + '00000003' + '02' + '00');
  t.same(decodeResponse(body(empty)), { status: undefined, payload: Buffer.alloc(0) });
  t.end();
});

void t.test('unknown fields of every wire type are passed over', (t) => {
  const strange = oracle('Strange')
    .encode({ a: 1, b: 2, c: 'c', d: -1, service: 'known', e: [1, 2] })
    .finish();
  t.equal(decodeRequest(strange).service, 'known');
  // Field 7 as a group that holds field 1 and another group; field 1 as a varint is not our field 1.
  const group = Buffer.from('3b' + '0a0178' + '4344' + '3c' + '0805' + '120179', 'hex');
  t.equal(decodeRequest(group).service, '');
  t.equal(decodeRequest(group).method, 'y');
  t.end();
});

void t.test('what is no message is InvalidArgument and nothing else', (t) => {
  const broken = {
    'cut off varint': '20ff',
    'cut off bytes': '0a05ab',
    'huge length': '0affffffffffffffffff01',
    'varint of eleven bytes': '20ffffffffffffffffffff01',
    'field number 0': '0200',
    'field number above 32 bits': 'f8ffffffff0f00',
    'wire type 6': '3e',
    'end of a group that did not begin': '3c',
    'group the wrong way round': '3c3b',
    'group without end': '3b',
    'pair that is no message': '2a02ffff',
  };
  for (const [what, hex] of Object.entries(broken)) {
    t.throws(
      () => decodeRequest(Buffer.from(hex, 'hex')),
      { name: 'VmError', kind: 'InvalidArgument' },
      what,
    );
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      for (const decode of [decodeRequest, decodeResponse]) {
        try {
          decode(bytes);
        } catch (error) {
          if (!VmError.is(error, 'InvalidArgument')) throw error;
        }
      }
    }),
    { numRuns: 2000 },
  );
  t.end();
});
