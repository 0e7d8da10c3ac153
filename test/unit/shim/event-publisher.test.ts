import { mock } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import { EventPublisher, type ForwardEvent, type TaskEvent } from '../../../src/shim/event-publisher.ts';
import { recordingLogger } from '../../support/recording-logger.ts';

const event = (topic: string): TaskEvent => ({
  topic,
  typeUrl: 't',
  value: new Uint8Array(),
  at: Date.now(),
});
const never = new AbortController().signal;

/** A publisher on timers of ours, and a containerd whose answer the test decides. */
function publisher(t: Test) {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  t.teardown(() => mock.timers.reset());
  const tried: string[] = [];
  const delivered: string[] = [];
  const containerd: { answer: (topic: string) => VmError | undefined } = { answer: () => undefined };
  const forward: ForwardEvent = async ({ topic }) => {
    tried.push(topic);
    await turn();
    const refusal = containerd.answer(topic);
    if (refusal !== undefined) throw refusal;
    delivered.push(topic);
  };
  const log = recordingLogger();
  const events = new EventPublisher(forward, log);
  const pass = async (ms = 0): Promise<void> => {
    mock.timers.tick(ms);
    for (let i = 0; i < 20; i++) await turn();
  };
  return { events, tried, delivered, containerd, log, pass };
}

void t.test('one at a time, in the order of publishing', async (t) => {
  const { events, tried, delivered, pass } = publisher(t);
  for (const topic of ['a', 'b', 'c']) events.publish(event(topic));
  t.same(tried, ['a']);
  await pass();
  t.same(delivered, ['a', 'b', 'c']);
  events.publish(event('d'));
  await events.drained(never);
  t.same(delivered, ['a', 'b', 'c', 'd']);
  await events.drained(never);
});

void t.test('while containerd is away the first is tried again and none overtakes it', async (t) => {
  const { events, tried, delivered, containerd, log, pass } = publisher(t);
  for (const kind of ['Unavailable', 'DeadlineExceeded', 'NotFound'] as const) {
    containerd.answer = () => new VmError(kind, 'away');
    events.publish(event(kind));
    await pass(60_000);
  }
  t.same([...new Set(tried)], ['Unavailable']);
  t.ok(tried.length > 2);
  containerd.answer = () => undefined;
  await pass(5_000);
  t.same(delivered, ['Unavailable', 'DeadlineExceeded', 'NotFound']);
  t.same(log.lines, []);
});

void t.test('the waits grow to five seconds and begin anew after a success', async (t) => {
  const { events, tried, containerd, pass } = publisher(t);
  containerd.answer = () => new VmError('Unavailable', 'away');
  events.publish(event('a'));
  await pass();
  for (const [attempt, wait] of [200, 400, 800, 1600, 3200, 5000, 5000].entries()) {
    await pass(wait - 1);
    t.equal(tried.length, attempt + 1, `not before ${wait} ms`);
    await pass(1);
    t.equal(tried.length, attempt + 2, `after ${wait} ms`);
  }
  containerd.answer = () => undefined;
  await pass(5000);
  containerd.answer = () => new VmError('Unavailable', 'away again');
  events.publish(event('b'));
  await pass();
  tried.length = 0;
  await pass(200);
  t.same(tried, ['b']);
});

void t.test('a refusal drops one event and says so', async (t) => {
  const { events, delivered, containerd, log, pass } = publisher(t);
  containerd.answer = (topic) =>
    topic === 'bad' ? new VmError('InvalidArgument', 'no such topic') : undefined;
  events.publish(event('bad'));
  events.publish(event('good'));
  await pass();
  t.same(delivered, ['good']);
  t.match(log.lines, ['warn event dropped topic=bad error=no such topic']);
});

void t.test('what nobody has taken for ten minutes is old news', async (t) => {
  const { events, delivered, containerd, log, pass } = publisher(t);
  containerd.answer = () => new VmError('Unavailable', 'away');
  events.publish(event('old'));
  for (let second = 0; second < 9 * 60; second += 5) await pass(5_000);
  t.same(log.lines, []);
  events.publish(event('new'));
  for (let second = 0; second < 70; second += 5) await pass(5_000);
  t.match(log.lines, ['warn event dropped topic=old error=away']);
  containerd.answer = () => undefined;
  await pass(5_000);
  t.same(delivered, ['new']);
});

void t.test('draining tries at once, and gives up when told', async (t) => {
  const { events, tried, delivered, containerd, pass } = publisher(t);
  containerd.answer = () => new VmError('Unavailable', 'away');
  events.publish(event('a'));
  await pass();
  containerd.answer = () => undefined;
  await events.drained(never);
  t.same(delivered, ['a'], 'no timer had to fire');

  containerd.answer = () => new VmError('Unavailable', 'away');
  events.publish(event('b'));
  await pass();
  const enough = new AbortController();
  const drained = events.drained(enough.signal);
  await pass();
  t.equal(tried.filter((topic) => topic === 'b').length, 2);
  enough.abort();
  await drained;
  t.same(delivered, ['a']);
  await events.drained(AbortSignal.abort());
});
