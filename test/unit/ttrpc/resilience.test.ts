import fc from 'fast-check';
import { once } from 'node:events';
import t from 'tap';
import { encodeRequestFrame } from '../../../src/ttrpc/envelope.ts';
import { encodeFrame } from '../../../src/ttrpc/frame.ts';
import { TtrpcServer } from '../../../src/ttrpc/server.ts';
import { connect, rawConnect, serve, text, utf8 } from './harness.ts';

const request = (streamId: number, method: string, payload = utf8(''), flags = 0): Buffer => {
  const metadata = new Map<string, readonly string[]>();
  return encodeRequestFrame(streamId, flags, { service: 's', method, payload, timeoutNano: 0n, metadata });
};

void t.test('whatever bytes come, the server lives and serves others', async (t) => {
  const server = new TtrpcServer({ stallMs: 1 });
  server.addService('s', {
    echo: { kind: 'unary', handle: (payload) => payload },
    stream: {
      kind: 'stream',
      handle: async (_, channel) => {
        for await (const message of channel) await channel.send(message);
        return undefined;
      },
    },
  });
  const path = await serve(t, server);
  const client = await connect(t, path);
  const nearlyValid = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc
      .tuple(fc.nat(9), fc.nat(4), fc.nat(7), fc.uint8Array({ maxLength: 30 }))
      .map((args) => new Uint8Array(encodeFrame(...args))),
    fc
      .tuple(fc.nat(9), fc.nat(7))
      .map(([id, flags]) => new Uint8Array(request(id, 'stream', utf8('x'), flags))),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(nearlyValid, { maxLength: 30 }), async (chunks) => {
      const peer = await rawConnect(t, path);
      for (const chunk of chunks) peer.socket.write(chunk);
      peer.socket.end();
      await peer.closed;
      t.equal(text(await client.call('s', 'echo', utf8('alive'))), 'alive');
    }),
    { numRuns: 100 },
  );
  t.equal(server.connectionCount, 1, 'every broken connection is gone');
});

void t.test('a client that never reads stops being read', async (t) => {
  const size = 256 << 10;
  let calls = 0;
  const server = new TtrpcServer({ maxQueuedBytes: 1 << 20 });
  const full = Promise.withResolvers<undefined>();
  server.addService('s', {
    big: {
      kind: 'unary',
      handle: () => {
        calls += 1;
        if (calls === 4) full.resolve(undefined);
        return Buffer.alloc(size);
      },
    },
    echo: { kind: 'unary', handle: (payload) => payload },
  });
  const path = await serve(t, server);
  const peer = await rawConnect(t, path);
  peer.socket.pause();
  const count = 400;
  for (let n = 0; n < count; n += 1) peer.socket.write(request(1 + 2 * n, 'big'));
  await full.promise;
  // Others are served meanwhile, often enough for the server to have read on if it would.
  const other = await connect(t, path);
  for (let n = 0; n < 50; n += 1) await other.call('s', 'echo', utf8('x'));
  t.ok(calls <= 10, `${calls} answers of 256 KiB for a bound of 1 MiB and the kernel's buffer`);
  peer.socket.resume();
  for (let n = 0; n < count; n += 1) t.equal((await peer.frame()).streamId, 1 + 2 * n);
  t.equal(calls, count);
});

void t.test('answers of calls under way are bounded, too', async (t) => {
  const server = new TtrpcServer({ maxQueuedBytes: 1 << 16 });
  const release = Promise.withResolvers<undefined>();
  const started = Promise.withResolvers<undefined>();
  let running = 0;
  server.addService('s', {
    big: {
      kind: 'unary',
      handle: async () => {
        running += 1;
        if (running === 100) started.resolve(undefined);
        await release.promise;
        return Buffer.alloc(1 << 16);
      },
    },
  });
  const peer = await rawConnect(t, await serve(t, server));
  for (let n = 0; n < 100; n += 1) peer.request(1 + 2 * n, { method: 'big' });
  await started.promise;
  release.resolve(undefined);
  const codes = new Map<number, number>();
  for (let n = 0; n < 100; n += 1) {
    const { code } = await peer.response();
    codes.set(code, (codes.get(code) ?? 0) + 1);
  }
  t.equal((codes.get(0) ?? 0) + (codes.get(8) ?? 0), 100);
  t.ok(codes.get(0)! <= 20, `${codes.get(0) ?? 0} answers of 64 KiB fit in eight times 64 KiB`);
});

void t.test('calls under way are limited, and the limit counts handlers, not answers', async (t) => {
  const server = new TtrpcServer({ maxCalls: 3 });
  const release = Promise.withResolvers<undefined>();
  server.addService('s', {
    hold: {
      kind: 'unary',
      handle: async () => {
        await release.promise;
        return utf8('held');
      },
    },
  });
  const peer = await rawConnect(t, await serve(t, server));
  peer.request(1, { method: 'hold', timeoutNano: 1_000_000n });
  t.match(await peer.response(), { streamId: 1, code: 4 });
  peer.request(3, { method: 'hold' });
  peer.request(5, { method: 'hold' });
  peer.request(7, { method: 'hold' });
  t.match(await peer.response(), { streamId: 7, code: 8 });
  release.resolve(undefined);
  t.match(await peer.response(), { streamId: 3, payload: 'held' });
  t.match(await peer.response(), { streamId: 5, payload: 'held' });
  peer.request(9, { method: 'hold' });
  t.match(await peer.response(), { streamId: 9, payload: 'held' });
});

void t.test('a stream waits for a slow reader instead of filling memory', async (t) => {
  const server = new TtrpcServer();
  let sent = 0;
  const blocked = Promise.withResolvers<undefined>();
  server.addService('s', {
    flood: {
      kind: 'stream',
      handle: async (_, channel) => {
        for (; sent < 200; sent += 1) {
          const accepted = channel.send(Buffer.alloc(100_000, sent));
          const waiting = await Promise.race([accepted.then(() => false), Promise.resolve(true)]);
          if (waiting) blocked.resolve(undefined);
          await accepted;
        }
        return undefined;
      },
    },
    echo: { kind: 'unary', handle: (payload) => payload },
  });
  const path = await serve(t, server);
  const peer = await rawConnect(t, path);
  peer.socket.pause();
  peer.request(1, { method: 'flood' });
  await blocked.promise;
  const other = await connect(t, path);
  for (let n = 0; n < 50; n += 1) await other.call('s', 'echo', utf8('x'));
  t.ok(sent < 20, `${sent} messages of 100 kB were accepted`);
  peer.socket.resume();
  for (let n = 0; n < 200; n += 1) t.equal((await peer.frame()).data[0], n);
});

void t.test('a reset connection is no uncaught error', async (t) => {
  const server = new TtrpcServer();
  const called = Promise.withResolvers<undefined>();
  const finish = Promise.withResolvers<undefined>();
  server.addService('s', {
    late: {
      kind: 'unary',
      handle: async () => {
        called.resolve(undefined);
        await finish.promise;
        return Buffer.alloc(1 << 20);
      },
    },
    big: { kind: 'unary', handle: () => Buffer.alloc(2 << 20) },
  });
  const path = await serve(t, server);
  const peer = await rawConnect(t, path);
  peer.socket.pause();
  peer.request(1, { method: 'late' });
  peer.request(3, { method: 'big' });
  await called.promise;
  peer.socket.destroy();
  await once(peer.socket, 'close');
  finish.resolve(undefined);
  const other = await connect(t, path);
  t.equal((await other.call('s', 'big', utf8(''))).length, 2 << 20);
});
