import { setImmediate as turn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import { TtrpcClient } from '../../../src/ttrpc/client.ts';
import { decodeRequest, encodeResponseFrame } from '../../../src/ttrpc/envelope.ts';
import { encodeFrame, MAX_DATA_LENGTH } from '../../../src/ttrpc/frame.ts';
import { TtrpcServer } from '../../../src/ttrpc/server.ts';
import { connect, listen, RawPeer, serve, text, utf8 } from './harness.ts';

/** A client, and the other end of its connection in the test's hands. */
async function pair(t: Test): Promise<{ client: TtrpcClient; peer: RawPeer }> {
  const accepted = Promise.withResolvers<RawPeer>();
  const path = await listen(t, (socket) => accepted.resolve(new RawPeer(socket)));
  const client = await connect(t, path);
  return { client, peer: await accepted.promise };
}

void t.test('a call sends method, payload, timeout and metadata on odd streams', async (t) => {
  const { client, peer } = await pair(t);
  const options = { timeoutMs: 60_000, metadata: { 'Containerd-Namespace-Ttrpc': ['k8s.io', 'b'] } };
  const first = client.call('a.B', 'Do', utf8('x'), options);
  const second = client.call('a.B', 'Do', utf8(''));
  const one = await peer.frame();
  const request = decodeRequest(one.data);
  t.match(one, { streamId: 1, type: 1, flags: 0 });
  t.match({ ...request, payload: text(request.payload) }, { service: 'a.B', method: 'Do', payload: 'x' });
  t.equal(request.timeoutNano, 60_000_000_000n);
  t.same([...request.metadata], [['containerd-namespace-ttrpc', ['k8s.io', 'b']]]);
  const two = await peer.frame();
  t.equal(two.streamId, 3);
  t.equal(decodeRequest(two.data).timeoutNano, 0n);
  // Answered in the other order.
  peer.socket.write(encodeResponseFrame(3, { status: undefined, payload: utf8('2') }));
  peer.socket.write(encodeResponseFrame(1, { status: { code: 0, message: '' }, payload: utf8('1') }));
  t.same([text(await first), text(await second)], ['1', '2']);
});

void t.test('a status rejects with its kind and message', async (t) => {
  const { client, peer } = await pair(t);
  const call = client.call('s', 'm', utf8(''));
  peer.socket.write(encodeResponseFrame(1, { status: { code: 9, message: 'not now' }, payload: utf8('') }));
  const error = await call.catch((e: unknown) => e);
  t.ok(error instanceof VmError);
  t.match(error, { kind: 'FailedPrecondition', message: 'not now' });
});

void t.test('answers that make no sense fail their call only', async (t) => {
  const { client, peer } = await pair(t);
  const oversize = Buffer.alloc(10 + MAX_DATA_LENGTH + 1);
  oversize.writeUInt32BE(MAX_DATA_LENGTH + 1);
  oversize.writeUInt32BE(5, 4);
  oversize[8] = 2;
  const calls = [1, 2, 3, 4].map(() => client.call('s', 'm', utf8('')));
  peer.socket.write(encodeFrame(1, 2, 0, Buffer.from('0aff', 'hex')));
  peer.socket.write(encodeFrame(3, 3, 0, utf8('data')));
  peer.socket.write(oversize);
  peer.socket.write(encodeFrame(99, 2, 0, utf8('nobody asked')));
  peer.socket.write(encodeResponseFrame(7, { status: undefined, payload: utf8('fine') }));
  const results = await Promise.allSettled(calls);
  t.match(results, [
    { reason: { kind: 'Internal' } },
    { reason: { kind: 'Internal' } },
    { reason: { kind: 'ResourceExhausted' } },
    { status: 'fulfilled' },
  ]);
});

void t.test('a call that cannot be sent uses no stream id', async (t) => {
  const { client, peer } = await pair(t);
  await t.rejects(client.call('s', 'm', Buffer.alloc(MAX_DATA_LENGTH)), {
    name: 'VmError',
    kind: 'ResourceExhausted',
  });
  await t.rejects(client.call('s', 'm', utf8(''), { signal: AbortSignal.abort() }), {
    name: 'VmError',
    kind: 'Canceled',
  });
  await t.rejects(client.call('s', 'm', utf8(''), { timeoutMs: NaN }), {
    name: 'VmError',
    kind: 'InvalidArgument',
  });
  const call = client.call('s', 'm', utf8(''));
  t.equal((await peer.frame()).streamId, 1);
  peer.socket.write(encodeResponseFrame(1, { status: undefined, payload: utf8('') }));
  await call;
});

void t.test('signal and timeout end the wait, late answers are dropped', async (t) => {
  const { client, peer } = await pair(t);
  const controller = new AbortController();
  const canceled = client.call('s', 'm', utf8(''), { signal: controller.signal });
  controller.abort();
  await t.rejects(canceled, { name: 'VmError', kind: 'Canceled' });
  await t.rejects(client.call('s', 'm', utf8(''), { timeoutMs: 5 }), {
    name: 'VmError',
    kind: 'DeadlineExceeded',
  });
  await t.rejects(client.call('s', 'm', utf8(''), { timeoutMs: 0 }), {
    name: 'VmError',
    kind: 'DeadlineExceeded',
  });
  await t.rejects(client.call('s', 'm', utf8(''), { timeoutMs: -Infinity }), {
    name: 'VmError',
    kind: 'DeadlineExceeded',
  });
  const call = client.call('s', 'm', utf8(''), { timeoutMs: 1e15 });
  for (const id of [1, 3, 5]) {
    peer.socket.write(encodeResponseFrame(id, { status: undefined, payload: utf8(String(id)) }));
  }
  t.equal(text(await call), '5');
  await peer.frame();
  await peer.frame();
  t.equal(decodeRequest((await peer.frame()).data).timeoutNano, 2n ** 63n - 1n);
});

void t.test('calls leave nothing on a signal that outlives them', async (t) => {
  const server = new TtrpcServer();
  server.addService('s', { echo: { kind: 'unary', handle: (payload) => payload } });
  const client = await connect(t, await serve(t, server));
  const { signal } = new AbortController();
  let listeners = 0;
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...args: Parameters<typeof add>) => {
    listeners += 1;
    add(...args);
  };
  signal.removeEventListener = (...args: Parameters<typeof remove>) => {
    listeners -= 1;
    remove(...args);
  };
  for (let n = 0; n < 10; n += 1) await client.call('s', 'echo', utf8('x'), { signal, timeoutMs: 1e6 });
  t.equal(listeners, 0);
});

void t.test('everything pending is Unavailable when the server goes away', async (t) => {
  const { client, peer } = await pair(t);
  const calls = [client.call('s', 'm', utf8('')), client.call('s', 'm', utf8(''), { timeoutMs: 1e6 })];
  const stream = client.openStream('s', 'm', utf8(''));
  await peer.frame();
  peer.socket.destroy();
  for (const call of calls) await t.rejects(call, { name: 'VmError', kind: 'Unavailable' });
  await t.rejects(stream.response, { name: 'VmError', kind: 'Unavailable' });
  await t.rejects(stream[Symbol.asyncIterator]().next(), { name: 'VmError', kind: 'Unavailable' });
  await t.rejects(stream.send(utf8('x')), { name: 'VmError', kind: 'Unavailable' });
  await client.closed;
  await t.rejects(client.call('s', 'm', utf8('')), { name: 'VmError', kind: 'Unavailable' });
  t.throws(() => client.openStream('s', 'm', utf8('')), { name: 'VmError', kind: 'Unavailable' });
});

void t.test('everything pending is Unavailable when the client closes', async (t) => {
  const { client, peer } = await pair(t);
  const call = client.call('s', 'm', utf8(''));
  client.close();
  await t.rejects(call, { name: 'VmError', kind: 'Unavailable' });
  await client.closed;
  await peer.closed;
  client.close();
});

void t.test('an error of a stream that nobody looks at is no unhandled rejection', async (t) => {
  const { client, peer } = await pair(t);
  client.openStream('s', 'm', utf8(''));
  await peer.frame();
  peer.socket.destroy();
  await client.closed;
  await turn();
  t.pass('still alive');
});

void t.test('connecting fails with a reason', async (t) => {
  const path = await listen(t, () => undefined);
  await t.rejects(TtrpcClient.connect(`${path}-none`), {
    kind: 'Unavailable',
    message: /nobody answers at the ttrpc socket ".*s-none" \(connect ENOENT/,
  });
  await t.rejects(TtrpcClient.connect('/' + 'x'.repeat(107)), {
    kind: 'InvalidArgument',
    message: /108 bytes/,
  });
  await t.rejects(TtrpcClient.connect(''), { name: 'VmError', kind: 'InvalidArgument' });
  await t.rejects(TtrpcClient.connect(path, { signal: AbortSignal.abort() }), {
    name: 'VmError',
    kind: 'Canceled',
  });
  const controller = new AbortController();
  const connecting = TtrpcClient.connect(path, { signal: controller.signal });
  controller.abort();
  await t.rejects(connecting, { name: 'VmError', kind: 'Canceled' });
});
