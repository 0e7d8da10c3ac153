import fc from 'fast-check';
import t, { type Test } from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import { encodeQmpCommand, QmpDecoder, type QmpMessage } from '../../../src/qemu/qmp-codec.ts';

const stream = [
  '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}\r\n',
  '{"return": {}, "id": 1}\r\n',
  '\r\n',
  '{"timestamp": {"seconds": 1795329057, "microseconds": 652355}, "event": "SHUTDOWN", "data": {"guest": true}}\r\n',
  '{"timestamp": {"seconds": -1, "microseconds": -1}, "event": "STOP"}\n',
  '{"id": 2, "error": {"class": "CommandNotFound", "desc": "nö such 💾"}}\r\n',
  '{"surprise": 1}\r\n',
].join('');

const messages: QmpMessage[] = [
  {
    kind: 'greeting',
    version: { major: 7, minor: 2, micro: 22, package: 'Debian' },
    capabilities: ['oob'],
  },
  { kind: 'reply', id: 1, value: {} },
  { kind: 'event', name: 'SHUTDOWN', data: { guest: true }, at: 1795329057652 },
  { kind: 'event', name: 'STOP', data: {}, at: 0 },
  { kind: 'error', id: 2, errorClass: 'CommandNotFound', desc: 'nö such 💾' },
  { kind: 'unknown' },
];

function decode(bytes: Buffer, cuts: readonly number[], maxBytes?: number): QmpMessage[] {
  const decoder = new QmpDecoder(maxBytes);
  const edges = [0, ...cuts, bytes.length];
  return edges.slice(1).flatMap((edge, i) => decoder.push(bytes.subarray(edges[i], edge)));
}

function onlyError(t: Test, decoded: readonly QmpMessage[]): string {
  const [first, ...others] = decoded;
  t.equal(others.length, 0);
  t.equal(first?.kind, 'invalid');
  return first?.kind === 'invalid' ? first.error.message : '';
}

void t.test('decodes the same messages wherever the stream is cut', (t) => {
  const bytes = Buffer.from(stream);
  t.same(decode(bytes, []), messages);
  for (let cut = 0; cut <= bytes.length; cut++) t.same(decode(bytes, [cut]), messages, `cut at ${cut}`);
  t.same(
    decode(
      bytes,
      Array.from(bytes.keys(), (i) => i),
    ),
    messages,
    'byte by byte',
  );
  t.end();
});

void t.test('a line at the limit passes, a longer one is an error before it is complete', (t) => {
  const line = '{"return": 1}';
  t.equal(decode(Buffer.from(`${line}\n`), [], line.length)[0]?.kind, 'reply');
  const decoder = new QmpDecoder(line.length - 1);
  t.same(decoder.push(Buffer.from(line.slice(0, 5))), []);
  t.match(onlyError(t, decoder.push(Buffer.from(line.slice(5)))), /longer than 12 bytes/);
  t.same(decoder.push(Buffer.from(`\n${line}\n`)), [], 'nothing after an error');
  t.end();
});

void t.test('the limit is for one line, not for the stream', (t) => {
  const bytes = Buffer.from('{"return": 1}\n'.repeat(100));
  t.equal(decode(bytes, [], 20).length, 100);
  t.end();
});

void t.test('messages before an invalid one are not lost', (t) => {
  const decoded = decode(Buffer.from('{"return": 1}\noops\n{"return": 2}\n'), []);
  t.same(
    decoded.map(({ kind }) => kind),
    ['reply', 'invalid'],
  );
  t.end();
});

void t.test('names what is wrong', (t) => {
  const table: [string, RegExp][] = [
    ['garbage', /not JSON: "garbage"/],
    ['[1]', /not an object: "\[1\]"/],
    ['null', /not an object/],
    ['{"event": 7}', /without the fields/],
    ['{"event": "X", "data": []}', /without the fields/],
    ['{"error": {"class": "GenericError"}}', /without the fields/],
    ['{"QMP": {}}', /without the fields/],
    ['{"QMP": {"version": {"qemu": {"major": 7, "minor": 2}}}}', /without the fields/],
    [`{"x": "${'y'.repeat(500)}"`, /y…"$/],
  ];
  for (const [line, expected] of table)
    t.match(onlyError(t, decode(Buffer.from(`${line}\n`), [])), expected, line);
  t.end();
});

void t.test('knows whether it is inside a message', (t) => {
  const decoder = new QmpDecoder();
  t.notOk(decoder.midMessage);
  decoder.push(Buffer.from('{"ret'));
  t.ok(decoder.midMessage);
  decoder.push(Buffer.from('urn": 1}\r\n'));
  t.notOk(decoder.midMessage);
  t.end();
});

void t.test('encodes one command on one line', (t) => {
  t.equal(encodeQmpCommand('cont', undefined, 7), '{"execute":"cont","id":7}\r\n');
  t.equal(
    encodeQmpCommand('balloon', { value: 1 }, 8),
    '{"execute":"balloon","arguments":{"value":1},"id":8}\r\n',
  );
  t.notMatch(encodeQmpCommand('x', { text: 'a\r\nb' }, 9).trimEnd(), /[\r\n]/);
  t.end();
});

void t.test('no bytes make it throw, and the cut does not matter', (t) => {
  const byte = fc.oneof(fc.constantFrom(...Buffer.from('{}[]":,\r\n10eventrQMPo\\u')), fc.nat(255));
  const bytes = fc.array(byte, { maxLength: 300 }).map((values) => Buffer.from(values));
  const json = fc.json().map((text) => Buffer.from(`${text}\n`));
  const keyed = fc
    .tuple(fc.constantFrom('event', 'return', 'error', 'QMP', 'id', '__proto__'), fc.jsonValue())
    .map(([key, value]) => Buffer.from(`{${JSON.stringify(key)}: ${JSON.stringify(value)}}\r\n`));
  fc.assert(
    fc.property(fc.oneof(bytes, json, keyed), fc.nat(300), (input, cut) => {
      const whole = decode(input, []);
      const halves = decode(input, [Math.min(cut, input.length)]);
      t.same(strip(halves), strip(whole));
    }),
    { numRuns: 500 },
  );
  t.end();
});

/** Errors compared by what they say. */
function strip(decoded: readonly QmpMessage[]): unknown[] {
  return decoded.map((message) => (message.kind === 'invalid' ? message.error.message : message));
}

void t.test('its errors are VmErrors', (t) => {
  const [message] = decode(Buffer.from('x\n'), []);
  t.ok(message?.kind === 'invalid' && VmError.is(message.error, 'Internal'));
  t.end();
});
