import t from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import { encodeFrame, MAX_DATA_LENGTH } from '../../../src/ttrpc/frame.ts';
import type { CallContext } from '../../../src/ttrpc/method.ts';
import { TtrpcServer } from '../../../src/ttrpc/server.ts';
import { rawConnect, type RawPeer, serve, utf8 } from './harness.ts';

/** A handler that runs until its call is aborted, and what became of it. */
class Waiting {
  readonly started: Promise<CallContext>;
  readonly reason: Promise<unknown>;
  calls = 0;
  #start: (call: CallContext) => void = () => undefined;
  #end: (reason: unknown) => void = () => undefined;
  readonly method = {
    kind: 'unary',
    handle: async (_: Uint8Array, call: CallContext): Promise<Uint8Array> => {
      this.calls += 1;
      this.#start(call);
      await new Promise((resolve) => call.signal.addEventListener('abort', resolve));
      this.#end(call.signal.reason);
      return utf8('too late');
    },
  } as const;

  constructor() {
    this.started = new Promise((resolve) => {
      this.#start = resolve;
    });
    this.reason = new Promise((resolve) => {
      this.#end = resolve;
    });
  }
}

async function start(
  t: Parameters<typeof serve>[0],
): Promise<{ peer: RawPeer; server: TtrpcServer; waiting: Waiting; calls: CallContext[]; path: string }> {
  const server = new TtrpcServer();
  const waiting = new Waiting();
  const calls: CallContext[] = [];
  server.addService('s', {
    echo: { kind: 'unary', handle: (payload) => payload },
    later: {
      kind: 'unary',
      handle: async (payload, call) => {
        calls.push(call);
        await new Promise((resolve) => setImmediate(resolve));
        return payload;
      },
    },
    wait: waiting.method,
    throwNow: {
      kind: 'unary',
      handle: () => {
        throw new VmError('NotFound', 'no such thing');
      },
    },
    reject: { kind: 'unary', handle: () => Promise.reject(new Error('odd')) },
    huge: { kind: 'unary', handle: () => Promise.resolve(Buffer.alloc(MAX_DATA_LENGTH)) },
    hugeError: { kind: 'unary', handle: () => Promise.reject(new Error('x'.repeat(5 << 20))) },
  });
  const path = await serve(t, server);
  return { peer: await rawConnect(t, path), server, waiting, calls, path };
}

void t.test('the bytes that a Go client writes are answered with the bytes it expects', async (t) => {
  const { peer } = await start(t);
  const chunks: Buffer[] = [];
  const answer = new Promise<void>((resolve) => {
    peer.socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      if (Buffer.concat(chunks).length >= 16) resolve();
    });
  });
  // Stream 1, Request, no flags: service "s", method "echo", payload 0a02c3a4, timeout 5 s, metadata ns=k8s.io.
  const body = '0a0173' + '12046563686f' + '1a040a02c3a4' + '2080e497d012' + '2a0c0a026e7312066b38732e696f';
  const length = (body.length / 2).toString(16).padStart(8, '0');
  peer.socket.write(Buffer.from(length + '00000001' + '01' + '00' + body, 'hex'));
  await answer;
  t.equal(Buffer.concat(chunks).toString('hex'), '00000006' + '00000001' + '02' + '00' + '12040a02c3a4');
});

void t.test('an empty answer is a response without a body', async (t) => {
  const { peer } = await start(t);
  peer.request(1, {});
  t.match(await peer.frame(), { streamId: 1, type: 2, flags: 0, data: { length: 0 } });
});

void t.test('what a handler throws is the status, at once or later', async (t) => {
  const { peer } = await start(t);
  peer.request(1, { method: 'throwNow' });
  t.same(await peer.response(), { streamId: 1, code: 5, payload: '', message: 'no such thing' });
  peer.request(3, { method: 'reject' });
  t.same(await peer.response(), { streamId: 3, code: 2, payload: '', message: 'odd' });
  peer.request(5, { method: 'hugeError' });
  t.equal((await peer.response()).message.length, 64 << 10);
});

void t.test('unknown services and methods are Unimplemented', async (t) => {
  const { peer } = await start(t);
  peer.request(1, { service: 'no.Such' });
  t.same(await peer.response(), { streamId: 1, code: 12, payload: '', message: 'service no.Such' });
  for (const [n, method] of ['Nope', '__proto__', 'constructor'].entries()) {
    peer.request(3 + 2 * n, { method });
    t.match(await peer.response(), { code: 12, message: `method ${method} of s` });
  }
});

void t.test('stream ids are odd and increase, with gaps', async (t) => {
  const { peer } = await start(t);
  for (const [id, code] of [
    [5, 0],
    [5, 3],
    [3, 3],
    [6, 3],
    [0, 3],
    [0xffffffff, 0],
    [7, 3],
  ] as const) {
    peer.request(id, {});
    t.match(await peer.response(), { streamId: id, code });
  }
});

void t.test('a request that is no message is InvalidArgument, and the connection goes on', async (t) => {
  const { peer } = await start(t);
  peer.socket.write(encodeFrame(1, 1, 0, Buffer.from('0aff', 'hex')));
  t.match(await peer.response(), { streamId: 1, code: 3 });
  peer.request(3, { payload: utf8('on') });
  t.match(await peer.response(), { streamId: 3, code: 0, payload: 'on' });
});

void t.test('unknown frame types, responses and data for no stream are ignored', async (t) => {
  const { peer } = await start(t);
  peer.socket.write(encodeFrame(1, 9, 0, utf8('?')));
  peer.socket.write(encodeFrame(1, 2, 0, utf8('?')));
  peer.socket.write(encodeFrame(1, 3, 1, utf8('?')));
  peer.request(1, { payload: utf8('first') });
  t.match(await peer.response(), { streamId: 1, code: 0, payload: 'first' });
  t.equal(peer.unread, 0);
});

void t.test('an oversize request is ResourceExhausted, and the connection goes on', async (t) => {
  const { peer } = await start(t);
  const frame = Buffer.alloc(10 + MAX_DATA_LENGTH + 1);
  frame.writeUInt32BE(MAX_DATA_LENGTH + 1);
  frame.writeUInt32BE(1, 4);
  frame[8] = 1;
  peer.socket.write(frame);
  t.match(await peer.response(), { streamId: 1, code: 8 });
  peer.request(1, {});
  t.match(await peer.response(), { streamId: 1, code: 3 }, 'its id is used up');
  peer.request(3, { payload: utf8('on') });
  t.match(await peer.response(), { streamId: 3, payload: 'on' });
});

void t.test('an answer above 4 MiB is ResourceExhausted', async (t) => {
  const { peer } = await start(t);
  peer.request(1, { method: 'huge' });
  t.match(await peer.response(), { streamId: 1, code: 8 });
});

void t.test('calls run at the same time and are answered in the order they end', async (t) => {
  const { peer, waiting } = await start(t);
  peer.request(1, { method: 'wait' });
  await waiting.started;
  const ids = Array.from({ length: 1000 }, (_, n) => 3 + 2 * n);
  for (const id of ids)
    peer.request(id, { method: id % 4 === 1 ? 'later' : 'echo', payload: utf8(String(id)) });
  const seen = new Map<number, string>();
  while (seen.size < ids.length) {
    const { streamId, payload } = await peer.response();
    seen.set(streamId, payload);
  }
  t.ok(ids.every((id) => seen.get(id) === String(id)));
  t.notSame([...seen.keys()], ids, 'slower calls came later');
  t.equal(peer.unread, 0);
});

void t.test('a handler sees metadata and deadline', async (t) => {
  const { peer, calls } = await start(t);
  const metadata = new Map([['containerd-namespace-ttrpc', ['k8s.io']]]);
  const before = performance.now();
  peer.request(1, { method: 'later', metadata, timeoutNano: 60_000_000_000n });
  peer.request(3, { method: 'later' });
  await peer.response();
  await peer.response();
  t.same([...calls[0]!.metadata], [...metadata]);
  t.ok(calls[0]!.deadline! >= before + 60_000 && calls[0]!.deadline! <= performance.now() + 60_000);
  t.equal(calls[1]!.deadline, undefined);
  t.equal(calls[1]!.metadata.size, 0);
  t.equal(calls[0]!.signal.aborted, false, 'a signal asked for after the end never aborts');
});

void t.test('at the deadline the client has its answer, and the late one is dropped', async (t) => {
  const { peer, waiting } = await start(t);
  const begun = performance.now();
  peer.request(1, { method: 'wait', timeoutNano: 20_000_000n });
  t.match(await peer.response(), { streamId: 1, code: 4 });
  t.ok(performance.now() - begun >= 19, 'not before the deadline');
  t.match(await waiting.reason, { name: 'TimeoutError' });
  peer.request(3, {});
  t.match(await peer.response(), { streamId: 3 });
  t.equal(peer.unread, 0);
});

void t.test('a deadline that has passed, and one that never comes', async (t) => {
  const { peer, waiting } = await start(t);
  peer.request(1, { method: 'wait', timeoutNano: -1n });
  t.match(await peer.response(), { streamId: 1, code: 4 });
  peer.request(3, { method: 'wait', timeoutNano: -(2n ** 63n) });
  t.match(await peer.response(), { streamId: 3, code: 4 });
  peer.request(5, { method: 'later', timeoutNano: 2n ** 63n - 1n, payload: utf8('x') });
  t.match(await peer.response(), { streamId: 5, code: 0, payload: 'x' });
  t.equal(waiting.calls, 0, 'no handler ran');
});

void t.test('a client that leaves aborts its calls and no others', async (t) => {
  const { peer, server, waiting, path } = await start(t);
  const other = await rawConnect(t, path);
  other.request(1, { method: 'later' });
  peer.request(1, { method: 'wait' });
  await waiting.started;
  t.equal(server.connectionCount, 2);
  peer.socket.destroy();
  t.ok(VmError.is(await waiting.reason, 'Canceled'));
  t.match(await other.response(), { code: 0 });
  other.request(3, {});
  t.match(await other.response(), { code: 0 });
});

void t.test('connections are counted', async (t) => {
  const counts: number[] = [];
  const gone = Promise.withResolvers<undefined>();
  const server = new TtrpcServer({
    onConnectionsChanged: (count) => {
      counts.push(count);
      if (count === 0) gone.resolve(undefined);
    },
  });
  const path = await serve(t, server);
  // A connect is over before it is accepted, so an answer is waited for.
  const a = await rawConnect(t, path);
  a.request(1, {});
  await a.response();
  const b = await rawConnect(t, path);
  b.request(1, {});
  await b.response();
  a.socket.destroy();
  b.socket.destroy();
  await gone.promise;
  t.same(counts, [1, 2, 1, 0]);
  t.equal(server.connectionCount, 0);
});

void t.test('a server that is about to end serves on until its clients have hung up', async (t) => {
  const server = new TtrpcServer();
  server.addService('s', { ask: { kind: 'unary', handle: () => Buffer.from('answer') } });
  const path = await serve(t, server);
  const [first, second] = [await rawConnect(t, path), await rawConnect(t, path)];
  first.request(1, { method: 'ask' });
  second.request(1, { method: 'ask' });
  await Promise.all([first.response(), second.response()]);
  let gone = false;
  const done = server.clientsGone(new AbortController().signal).then(() => {
    gone = true;
  });
  first.socket.end();
  await first.closed;
  second.request(3, { method: 'ask' });
  t.equal((await second.response()).payload, 'answer', 'a call that comes after all');
  t.notOk(gone, 'one client is there');
  second.socket.end();
  await done;
  t.equal(server.connectionCount, 0);

  const third = await rawConnect(t, path);
  third.request(1, { method: 'ask' });
  await third.response();
  const patience = new AbortController();
  const given = server.clientsGone(patience.signal);
  patience.abort();
  await given;
  t.equal(server.connectionCount, 1, 'one that stays is not waited for any longer');
  await server.clientsGone(AbortSignal.abort());
  third.socket.end();
  await server.close();
});

void t.test('close sends the answers that are there, then closes, and the socket path stays', async (t) => {
  const server = new TtrpcServer();
  const waiting = new Waiting();
  let closed: Promise<void> | undefined;
  server.addService('s', {
    wait: waiting.method,
    shutdown: {
      kind: 'unary',
      handle: async () => {
        closed = server.close({ graceMs: 60_000 });
        await Promise.resolve();
        return Buffer.alloc(3 << 20, 'x');
      },
    },
  });
  const path = await serve(t, server);
  const peer = await rawConnect(t, path);
  peer.request(1, { method: 'wait' });
  await waiting.started;
  peer.request(3, { method: 'shutdown' });
  const { streamId, payload } = await peer.response();
  t.equal(streamId, 3);
  t.equal(payload.length, 3 << 20);
  await peer.closed;
  await closed;
  t.ok(VmError.is(await waiting.reason, 'Canceled'));
  t.equal(peer.unread, 0);
  const late = await rawConnect(t, path);
  await late.closed;
  t.equal(server.connectionCount, 0, 'nobody new is served, though the listener still accepts');
});

void t.test('close gives up on a client that does not read after the grace period', async (t) => {
  const server = new TtrpcServer();
  const called = Promise.withResolvers<undefined>();
  const handle = (): Uint8Array => {
    called.resolve(undefined);
    return Buffer.alloc(4_000_000);
  };
  server.addService('s', { big: { kind: 'unary', handle } });
  const path = await serve(t, server);
  const peer = await rawConnect(t, path);
  peer.socket.pause();
  peer.request(1, { method: 'big' });
  await called.promise;
  await server.close({ graceMs: 1 });
  t.equal(server.connectionCount, 0);
});

void t.test('a service is added once', (t) => {
  const server = new TtrpcServer();
  server.addService('s', {});
  t.throws(() => server.addService('s', {}), { name: 'VmError', kind: 'AlreadyExists' });
  t.end();
});
