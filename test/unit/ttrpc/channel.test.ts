import t from 'tap';
import { defaultLimits } from '../../../src/ttrpc/limits.ts';
import { Channel, type FrameSink } from '../../../src/ttrpc/stream.ts';
import { text, utf8 } from './harness.ts';

function sink(): FrameSink & { retries: number } {
  return {
    congested: false,
    retries: 0,
    send: () => undefined,
    onceDrained: () => undefined,
    retry() {
      this.retries += 1;
    },
  };
}

void t.test('a full queue refuses until a message is received', async (t) => {
  const below = sink();
  const limits = { ...defaultLimits, maxStreamMessages: 3, maxStreamBytes: 10 };
  const channel = new Channel(1, below, limits);
  const receiver = channel[Symbol.asyncIterator]();
  t.ok(channel.offer(Buffer.alloc(100)), 'a single message may be larger than the bound');
  t.notOk(channel.offer(utf8('x')));
  t.equal(below.retries, 0);
  await receiver.next();
  t.equal(below.retries, 1, 'what was refused may come again');
  for (let n = 0; n < 20; n += 1) {
    t.ok(channel.offer(Buffer.alloc(5)));
    t.ok(channel.offer(Buffer.alloc(5)));
    t.notOk(channel.offer(Buffer.alloc(1)), 'the bytes are used up');
    await receiver.next();
    await receiver.next();
  }
  for (const expected of [true, true, true, false]) t.equal(channel.offer(utf8('')), expected);
});

void t.test('whoever waits for a message gets it', async (t) => {
  const channel = new Channel(1, sink(), defaultLimits);
  const receiver = channel[Symbol.asyncIterator]();
  const waiting = [receiver.next(), receiver.next(), receiver.next(), receiver.next()];
  channel.offer(utf8('a'));
  channel.offer(utf8('b'));
  channel.endReceive();
  channel.offer(utf8('c'));
  const results = await Promise.all(waiting);
  t.same(
    results.map((r) => (r.done === true ? undefined : text(r.value))),
    ['a', 'b', undefined, undefined],
  );
});
