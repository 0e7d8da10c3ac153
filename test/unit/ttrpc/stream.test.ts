import t, { type Test } from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import type { ClientStream, TtrpcClient } from '../../../src/ttrpc/client.ts';
import { decodeRequest, encodeResponseFrame } from '../../../src/ttrpc/envelope.ts';
import { encodeFrame, MAX_DATA_LENGTH } from '../../../src/ttrpc/frame.ts';
import type { Limits } from '../../../src/ttrpc/limits.ts';
import type { StreamMethod } from '../../../src/ttrpc/method.ts';
import { TtrpcServer } from '../../../src/ttrpc/server.ts';
import type { StreamChannel } from '../../../src/ttrpc/stream.ts';
import { connect, listen, rawConnect, RawPeer, serve, text, utf8 } from './harness.ts';

const open = 2;
const closed = 1;
const noData = 4;

async function collect(channel: AsyncIterable<Uint8Array>): Promise<string[]> {
  const messages: string[] = [];
  for await (const message of channel) messages.push(text(message));
  return messages;
}

async function start(t: Test, handle: StreamMethod['handle'], limits: Partial<Limits> = {}): Promise<string> {
  const server = new TtrpcServer(limits);
  server.addService('s', {
    stream: { kind: 'stream', handle },
    echo: { kind: 'unary', handle: (payload) => payload },
  });
  return serve(t, server);
}

async function echo(_: Uint8Array, channel: StreamChannel): Promise<undefined> {
  for await (const message of channel) await channel.send(message);
}

void t.test('the wire of a stream: data both ways, half close, end', async (t) => {
  const peer = await rawConnect(t, await start(t, echo));
  peer.request(1, { method: 'stream' }, open);
  peer.socket.write(encodeFrame(1, 3, 0, utf8('a')));
  t.match(await peer.frame(), { streamId: 1, type: 3, flags: 0, data: utf8('a') });
  peer.socket.write(encodeFrame(1, 3, 0));
  t.match(await peer.frame(), { type: 3, flags: 0, data: { length: 0 } }, 'an empty message is a message');
  peer.socket.write(encodeFrame(1, 3, closed | noData));
  t.match(await peer.frame(), { streamId: 1, type: 3, flags: closed | noData, data: { length: 0 } });
  peer.socket.write(encodeFrame(1, 3, 0, utf8('late')));
  peer.request(3, { payload: utf8('on') });
  t.match(await peer.response(), { streamId: 3, payload: 'on' });
});

void t.test('a stream may end with a final response or a status', async (t) => {
  const path = await start(t, async (request, channel) => {
    const messages = await collect(channel);
    if (messages.includes('bad')) throw new VmError('Aborted', 'bad message');
    return utf8(text(request) + messages.join(''));
  });
  const client = await connect(t, path);
  const stream = client.openStream('s', 'stream', utf8('>'));
  await stream.send(utf8('1'));
  await stream.send(utf8('2'));
  stream.closeSend();
  stream.closeSend();
  t.equal(text((await stream.response)!), '>12');
  t.same(await collect(stream), []);
  await t.rejects(stream.send(utf8('3')), { name: 'VmError', kind: 'FailedPrecondition' });
  const bad = client.openStream('s', 'stream', utf8(''));
  await bad.send(utf8('bad'));
  bad.closeSend();
  await t.rejects(collect(bad), { name: 'VmError', kind: 'Aborted', message: 'bad message' });
  await t.rejects(bad.response, { name: 'VmError', kind: 'Aborted' });
});

void t.test('a server stream gets its request and no input', async (t) => {
  const path = await start(t, async (request, channel) => {
    t.same(await collect(channel), []);
    for (const letter of text(request)) await channel.send(utf8(letter));
    return undefined;
  });
  const client = await connect(t, path);
  const stream = client.openStream('s', 'stream', utf8('abc'), { clientStreaming: false });
  t.same(await collect(stream), ['a', 'b', 'c']);
  t.equal(await stream.response, undefined);
  await t.rejects(stream.send(utf8('x')), { name: 'VmError', kind: 'FailedPrecondition' });
  const peer = await rawConnect(t, path);
  peer.request(1, { method: 'stream', payload: utf8('z') }, closed);
  t.match(await peer.frame(), { type: 3, flags: 0, data: utf8('z') });
  t.match(await peer.frame(), { type: 3, flags: closed | noData });
});

void t.test('a handler that fails at once is answered', async (t) => {
  const path = await start(t, () => {
    throw new VmError('NotFound', 'nothing');
  });
  const client = await connect(t, path);
  await t.rejects(client.openStream('s', 'stream', utf8('')).response, { name: 'VmError', kind: 'NotFound' });
});

void t.test('a server that closes its side has ended the stream', async (t) => {
  const path = await start(t, async (_, channel) => {
    channel.closeSend();
    await t.rejects(channel.send(utf8('x')), { name: 'VmError', kind: 'FailedPrecondition' });
    throw new Error('nobody hears this');
  });
  const peer = await rawConnect(t, path);
  peer.request(1, { method: 'stream' }, open);
  t.match(await peer.frame(), { type: 3, flags: closed | noData });
  peer.request(3, {});
  t.match(await peer.response(), { streamId: 3 });
});

void t.test('streams on one connection do not mix', async (t) => {
  const client = await connect(t, await start(t, echo));
  const talk = async (stream: ClientStream, name: string): Promise<string[]> => {
    const received = collect(stream);
    for (let n = 0; n < 50; n += 1) await stream.send(utf8(`${name}${n}`));
    stream.closeSend();
    return await received;
  };
  const names = ['a', 'b', 'c', 'd'];
  const results = await Promise.all(
    names.map((name) => talk(client.openStream('s', 'stream', utf8('')), name)),
  );
  for (const [n, name] of names.entries()) {
    t.same(
      results[n],
      Array.from({ length: 50 }, (_, i) => `${name}${i}`),
    );
  }
});

void t.test('a burst beyond the queue is held back, not lost, while somebody receives', async (t) => {
  const path = await start(t, async (_, channel) => utf8(String((await collect(channel)).length)));
  const client = await connect(t, path);
  const stream = client.openStream('s', 'stream', utf8(''));
  await Promise.all(Array.from({ length: 5000 }, () => stream.send(utf8('m'))));
  stream.closeSend();
  t.equal(text((await stream.response)!), '5000');
});

for (const [what, limits, message] of [
  ['messages', { maxStreamMessages: 4 }, utf8('m')],
  ['bytes', { maxStreamBytes: 100 }, Buffer.alloc(30)],
] as const) {
  void t.test(`a stream full of ${what} that nobody receives ends, the connection goes on`, async (t) => {
    const reason = Promise.withResolvers<unknown>();
    const handle: StreamMethod['handle'] = async (_, __, call) => {
      await new Promise((resolve) => call.signal.addEventListener('abort', resolve));
      reason.resolve(call.signal.reason);
      return utf8('late');
    };
    const peer = await rawConnect(t, await start(t, handle, { ...limits, stallMs: 5 }));
    peer.request(1, { method: 'stream' }, open);
    for (let n = 0; n < 10; n += 1) peer.socket.write(encodeFrame(1, 3, 0, message));
    t.match(await peer.response(), { streamId: 1, code: 8 });
    t.ok(VmError.is(await reason.promise, 'ResourceExhausted'));
    peer.request(3, { payload: utf8('on') });
    t.match(await peer.response(), { streamId: 3, payload: 'on' });
    t.equal(peer.unread, 0);
  });
}

void t.test('what had arrived is delivered before the error', async (t) => {
  const outcome = Promise.withResolvers<unknown>();
  const received: string[] = [];
  const path = await start(t, async (_, channel, call) => {
    await new Promise((resolve) => call.signal.addEventListener('abort', resolve));
    try {
      for await (const message of channel) received.push(text(message));
    } catch (error) {
      outcome.resolve(error);
      await channel.send(utf8('x'));
    }
    return undefined;
  });
  const peer = await rawConnect(t, path);
  peer.request(1, { method: 'stream' }, open);
  peer.socket.write(encodeFrame(1, 3, 0, utf8('a')));
  peer.socket.end(encodeFrame(1, 3, 0, utf8('b')));
  t.ok(VmError.is(await outcome.promise, 'Canceled'));
  t.same(received, ['a', 'b']);
});

void t.test('a handler that leaves its loop wants no more', async (t) => {
  const left = Promise.withResolvers<undefined>();
  const go = Promise.withResolvers<undefined>();
  const path = await start(
    t,
    async (_, channel) => {
      for await (const message of channel) if (text(message) === 'stop') break;
      left.resolve(undefined);
      await go.promise;
      return utf8('end');
    },
    { maxStreamMessages: 2, stallMs: Infinity },
  );
  const peer = await rawConnect(t, path);
  peer.request(1, { method: 'stream' }, open);
  for (const message of ['a', 'stop', 'b', 'c', 'd', 'e'])
    peer.socket.write(encodeFrame(1, 3, 0, utf8(message)));
  await left.promise;
  peer.request(3, { payload: utf8('on') });
  t.match(await peer.response(), { streamId: 3, payload: 'on' });
  go.resolve(undefined);
  t.match(await peer.response(), { streamId: 1, payload: 'end' });
});

void t.test('a stream that was ended for its frames is answered once', async (t) => {
  const release = Promise.withResolvers<undefined>();
  const path = await start(t, async () => {
    await release.promise;
    return utf8('late');
  });
  const peer = await rawConnect(t, path);
  peer.request(1, { method: 'stream' }, open);
  peer.socket.write(encodeFrame(1, 3, closed, utf8('body')));
  peer.socket.write(encodeFrame(1, 3, closed, utf8('body')));
  peer.request(3, {});
  t.match(await peer.response(), { streamId: 1, code: 3 });
  t.match(await peer.response(), { streamId: 3 });
  release.resolve(undefined);
  peer.request(5, {});
  t.match(await peer.response(), { streamId: 5 });
  t.equal(peer.unread, 0);
});

void t.test('frames against the rules end their stream only', async (t) => {
  const peer = await rawConnect(t, await start(t, echo));
  peer.request(1, { method: 'stream' }, open);
  peer.socket.write(encodeFrame(1, 3, closed, utf8('body')));
  t.match(await peer.response(), { streamId: 1, code: 3 });
  peer.request(3, { method: 'stream' }, open);
  const oversize = Buffer.alloc(10 + MAX_DATA_LENGTH + 1);
  oversize.writeUInt32BE(MAX_DATA_LENGTH + 1);
  oversize.writeUInt32BE(3, 4);
  oversize[8] = 3;
  peer.socket.write(oversize);
  t.match(await peer.response(), { streamId: 3, code: 8 });
  peer.request(5, {});
  t.match(await peer.response(), { streamId: 5, code: 0 });
});

void t.test('the deadline ends a stream', async (t) => {
  const ended = Promise.withResolvers<unknown>();
  const path = await start(t, async (_, channel, call) => {
    await collect(channel).catch((error: unknown) => ended.resolve([error, call.signal.reason]));
    return undefined;
  });
  const peer = await rawConnect(t, path);
  peer.request(1, { method: 'stream', timeoutNano: 5_000_000n }, open);
  t.match(await peer.response(), { streamId: 1, code: 4 });
  t.match(await ended.promise, [{ kind: 'DeadlineExceeded' }, { name: 'TimeoutError' }]);
  peer.request(3, {});
  t.match(await peer.response(), { streamId: 3 });
});

async function pair(t: Test, limits: Partial<Limits> = {}): Promise<{ client: TtrpcClient; peer: RawPeer }> {
  const accepted = Promise.withResolvers<RawPeer>();
  const path = await listen(t, (socket) => accepted.resolve(new RawPeer(socket)));
  const client = await connect(t, path, limits);
  return { client, peer: await accepted.promise };
}

void t.test('the client side of the wire', async (t) => {
  const { client, peer } = await pair(t);
  const stream = client.openStream('s', 'm', utf8('r'));
  const request = await peer.frame();
  t.match(request, { streamId: 1, type: 1, flags: open });
  t.equal(text(decodeRequest(request.data).payload), 'r');
  await stream.send(utf8('a'));
  t.match(await peer.frame(), { streamId: 1, type: 3, flags: 0, data: utf8('a') });
  stream.closeSend();
  t.match(await peer.frame(), { streamId: 1, type: 3, flags: closed | noData, data: { length: 0 } });
  peer.socket.write(encodeFrame(1, 3, 0, utf8('x')));
  peer.socket.write(encodeFrame(1, 3, closed, utf8('last')));
  t.same(await collect(stream), ['x', 'last']);
  t.equal(await stream.response, undefined);
  client.openStream('s', 'm', utf8(''), { clientStreaming: false });
  t.match(await peer.frame(), { streamId: 3, type: 1, flags: closed });
});

void t.test('a client that gives up closes its side and forgets the stream', async (t) => {
  const { client, peer } = await pair(t);
  const controller = new AbortController();
  const stream = client.openStream('s', 'm', utf8(''), { signal: controller.signal });
  await peer.frame();
  const next = stream[Symbol.asyncIterator]().next();
  controller.abort();
  await t.rejects(next, { name: 'VmError', kind: 'Canceled' });
  await t.rejects(stream.response, { name: 'VmError', kind: 'Canceled' });
  t.match(await peer.frame(), { streamId: 1, type: 3, flags: closed | noData });
  peer.socket.write(encodeFrame(1, 3, 0, utf8('late')));
  const late = client.openStream('s', 'm', utf8(''), { timeoutMs: 5 });
  await t.rejects(late.response, { name: 'VmError', kind: 'DeadlineExceeded' });
});

void t.test('a client that does not receive loses that stream only', async (t) => {
  const { client, peer } = await pair(t, { maxStreamMessages: 2, stallMs: 5 });
  const stream = client.openStream('s', 'm', utf8(''));
  const call = client.call('s', 'm', utf8(''));
  for (const message of ['a', 'b', 'c', 'd']) peer.socket.write(encodeFrame(1, 3, 0, utf8(message)));
  peer.socket.write(encodeResponseFrame(3, { status: undefined, payload: utf8('on') }));
  t.equal(text(await call), 'on');
  await t.rejects(stream.response, { name: 'VmError', kind: 'ResourceExhausted' });
  const received: string[] = [];
  const receive = async (): Promise<void> => {
    for await (const message of stream) received.push(text(message));
  };
  await t.rejects(receive(), { name: 'VmError', kind: 'ResourceExhausted' });
  t.same(received, ['a', 'b']);
});
