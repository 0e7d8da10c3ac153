import { getEventListeners } from 'node:events';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import { QmpClient } from '../../../src/qemu/qmp-client.ts';
import { FakeQemu, qemu72Greeting } from '../../support/fake-qemu.ts';
import { type Teardown, tempDir } from '../../support/temp-dir.ts';

async function connected(t: Teardown): Promise<{ fake: FakeQemu; qmp: QmpClient }> {
  const fake = await FakeQemu.start(t);
  const qmp = await QmpClient.connect(fake.path);
  t.teardown(() => qmp.close());
  return { fake, qmp };
}

async function failure(promise: Promise<unknown>): Promise<VmError> {
  const error = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!(error instanceof VmError)) throw new Error(`no VmError but ${String(error)}`);
  return error;
}

void t.test('connect() negotiates before anything else and knows the version', async (t) => {
  const { fake, qmp } = await connected(t);
  t.same(
    fake.commands.map(({ execute }) => execute),
    ['qmp_capabilities'],
  );
  t.same(qmp.version, { major: 7, minor: 2, micro: 22, package: 'Debian 1:7.2' });
});

void t.test('connect() fails', async (t) => {
  await t.test('where nobody listens', async (t) => {
    const error = await failure(QmpClient.connect(join(tempDir(t), 'none.sock')));
    t.equal(error.kind, 'Unavailable');
    t.match(error.message, /cannot speak QMP on .*none\.sock: .*ENOENT/);
  });
  await t.test('with a peer that is not QEMU', async (t) => {
    const fake = await FakeQemu.start(t, {});
    const connecting = failure(QmpClient.connect(fake.path, { onEvent: () => t.fail('no event') }));
    await fake.connected;
    fake.sendRaw('220 mail.example ESMTP\r\n');
    t.match(await connecting, { kind: 'Unavailable', message: /not JSON: "220 mail/ });
  });
  await t.test('when the peer ends without a greeting', async (t) => {
    const fake = await FakeQemu.start(t, {});
    const connecting = failure(QmpClient.connect(fake.path));
    await fake.connected;
    fake.hangUp();
    t.match(await connecting, { kind: 'Unavailable', message: /QEMU closed the QMP connection/ });
  });
  await t.test('when capabilities are refused', async (t) => {
    const fake = await FakeQemu.start(t);
    fake.on('qmp_capabilities', () => ({ error: { class: 'GenericError', desc: 'not today' } }));
    t.match(await failure(QmpClient.connect(fake.path)), { kind: 'Unavailable', message: /not today/ });
  });
  await t.test('when its signal aborts, before or while waiting for the greeting', async (t) => {
    const fake = await FakeQemu.start(t, {});
    t.equal((await failure(QmpClient.connect(fake.path, { signal: AbortSignal.abort() }))).kind, 'Canceled');
    const abort = new AbortController();
    const connecting = failure(QmpClient.connect(fake.path, { signal: abort.signal }));
    await fake.connected;
    abort.abort(new DOMException('late', 'TimeoutError'));
    t.equal((await connecting).kind, 'DeadlineExceeded');
  });
});

void t.test('execute() finds answers by id, in whatever order they come', async (t) => {
  const { fake, qmp } = await connected(t);
  for (const name of ['a', 'b', 'c']) fake.on(name, () => 'silence');
  const last = fake.arrival('c');
  const all = Promise.all([qmp.execute('a', { n: 1 }), qmp.execute('b'), qmp.execute('c')]);
  await last;
  const ids = new Map(fake.commands.map(({ execute, id }) => [execute, id]));
  t.equal(new Set(ids.values()).size, 4, 'every id is its own');
  for (const name of ['c', 'a', 'b']) fake.send({ return: `to ${name}`, id: ids.get(name) });
  t.same(await all, ['to a', 'to b', 'to c']);
  t.same(fake.commands[1]?.arguments, { n: 1 });
});

void t.test('execute() maps error classes and names the command', async (t) => {
  const { fake, qmp } = await connected(t);
  const table = [
    ['CommandNotFound', 'Unimplemented'],
    ['DeviceNotFound', 'NotFound'],
    ['DeviceNotActive', 'FailedPrecondition'],
    ['KVMMissingCap', 'FailedPrecondition'],
    ['GenericError', 'Internal'],
    ['constructor', 'Internal'],
  ] as const;
  for (const [errorClass, kind] of table) {
    fake.on('try', () => ({ error: { class: errorClass, desc: 'it will not' } }));
    t.match(await failure(qmp.execute('try')), {
      kind,
      message: 'QEMU refused QMP command "try": it will not',
    });
  }
});

void t.test('execute() fails with the stack of its caller', async (t) => {
  const { qmp } = await connected(t);
  async function aRecognizableCaller(): Promise<unknown> {
    return await qmp.execute('nope');
  }
  const { stack, message } = await failure(aRecognizableCaller());
  t.match(stack, /aRecognizableCaller/);
  t.ok(stack?.startsWith(`VmError: ${message}\n`));
});

void t.test(
  'an aborted execute() rejects at once, is forgotten, and its late answer hurts nobody',
  async (t) => {
    const { fake, qmp } = await connected(t);
    fake.on('slow', () => 'silence');
    fake.on('quick', () => ({ return: 'ok' }));
    const abort = new AbortController();
    const arrival = fake.arrival('slow');
    const slow = failure(qmp.execute('slow', undefined, { signal: abort.signal }));
    const { id } = await arrival;
    abort.abort();
    t.match(await slow, { kind: 'Canceled', message: /QMP command "slow"/ });
    fake.send({ return: 'too late', id });
    t.equal(await qmp.execute('quick'), 'ok');
    const sent = fake.commands.length;
    t.equal((await failure(qmp.execute('quick', {}, { signal: AbortSignal.abort() }))).kind, 'Canceled');
    t.equal(await qmp.execute('quick'), 'ok');
    t.equal(fake.commands.length, sent + 1, 'an aborted call sends nothing');

    const unanswered = new AbortController();
    const forgotten = failure(qmp.execute('slow', undefined, { signal: unanswered.signal }));
    const arrivalAfter = fake.arrival('slow');
    const oldest = failure(qmp.execute('slow'));
    unanswered.abort();
    await Promise.all([forgotten, arrivalAfter]);
    fake.send({ error: { class: 'GenericError', desc: 'JSON parse error' } });
    t.match(
      await oldest,
      { message: /JSON parse error/ },
      'the aborted call is not taken for the oldest one',
    );
  },
);

void t.test('a signal that outlives many calls is not held by them', async (t) => {
  const { fake, qmp } = await connected(t);
  const { signal } = new AbortController();
  using events = qmp.listen(['A']);
  fake.on('ask', () => {
    fake.emit('A');
    return { return: {} };
  });
  await qmp.execute('ask', undefined, { signal });
  await failure(qmp.execute('nope', undefined, { signal }));
  await events.next({ signal });
  const next = events.next({ signal });
  t.equal(getEventListeners(signal, 'abort').length, 1);
  fake.emit('A');
  await next;
  (await QmpClient.connect((await FakeQemu.start(t)).path, { signal })).close();
  t.same(getEventListeners(signal, 'abort'), []);
});

void t.test('answers to nobody are ignored; an error without an id is the oldest call’s', async (t) => {
  const { fake, qmp } = await connected(t);
  fake.on('first', () => 'silence');
  fake.on('second', () => 'silence');
  const arrival = fake.arrival('second');
  const first = failure(qmp.execute('first'));
  const second = qmp.execute('second');
  const { id } = await arrival;
  for (const odd of [99, 'x', null, { id }, [id]]) fake.send({ return: 'whose?', id: odd });
  fake.send({ return: 'whose?' });
  fake.send({ future: true });
  fake.send(qemu72Greeting);
  fake.send({ error: { class: 'GenericError', desc: 'JSON parse error' } });
  fake.send({ return: 2, id });
  t.match(await first, { message: /"first": JSON parse error/ });
  t.equal(await second, 2);
  using events = qmp.listen(['MARK']);
  fake.send({ error: { class: 'GenericError', desc: 'and again with nobody waiting' } });
  fake.emit('MARK');
  await events.next();
  fake.on('third', () => ({ return: 3 }));
  t.equal(await qmp.execute('third'), 3);
});

void t.test('the end of the connection', async (t) => {
  await t.test('by QEMU rejects what waits and what comes later', async (t) => {
    const { fake, qmp } = await connected(t);
    fake.on('wait', () => 'silence');
    using events = qmp.listen(['STOP']);
    const arrival = fake.arrival('wait');
    const waiting = [failure(qmp.execute('wait')), failure(qmp.execute('wait')), failure(events.next())];
    await arrival;
    fake.hangUp();
    for (const error of await Promise.all(waiting)) t.equal(error.kind, 'Unavailable');
    t.equal(await qmp.closed, undefined, 'an orderly end is no error');
    t.match(await failure(qmp.execute('more')), {
      kind: 'Unavailable',
      message: /"more" cannot be sent: QEMU closed/,
    });
    using late = qmp.listen(['STOP']);
    t.equal((await failure(late.next())).kind, 'Unavailable');
    t.equal(qmp.version.major, 7, 'the version stays known');
  });
  await t.test('inside a message is an error', async (t) => {
    const { fake, qmp } = await connected(t);
    fake.sendRaw('{"event": "SHU');
    fake.hangUp();
    t.match(await qmp.closed, { kind: 'Unavailable', message: /inside a message/ });
  });
  await t.test('by garbage is an error that waiting calls have as their cause', async (t) => {
    const { fake, qmp } = await connected(t);
    fake.on('wait', () => 'silence');
    const arrival = fake.arrival('wait');
    const waiting = failure(qmp.execute('wait'));
    await arrival;
    fake.sendRaw('%\n');
    const error = await waiting;
    t.match(error, { kind: 'Unavailable', message: /not JSON/ });
    t.equal(error.cause, await qmp.closed);
  });
  await t.test('by close() is no error, and closing twice is fine', async (t) => {
    const { fake, qmp } = await connected(t);
    fake.on('wait', () => 'silence');
    const waiting = failure(qmp.execute('wait'));
    qmp.close();
    qmp.close();
    t.match(await waiting, { kind: 'Unavailable', message: /the QMP connection was closed/ });
    t.equal(await qmp.closed, undefined);
  });
});

void t.test('listen() before a command loses nothing', async (t) => {
  const { fake, qmp } = await connected(t);
  fake.on('stop', () => {
    fake.emit('STOP');
    fake.emit('BALLOON_CHANGE', { actual: 5 });
    fake.emit('RESUME');
    return { return: {} };
  });
  using events = qmp.listen(['STOP', 'RESUME']);
  await qmp.execute('stop');
  t.match(await events.next(), { name: 'STOP', at: 1700000000250 });
  t.match(await events.next(), { name: 'RESUME', data: {} });
  const waiting = events.next();
  fake.emit('STOP');
  t.match(await waiting, { name: 'STOP' });
});

void t.test('a listener', async (t) => {
  await t.test('gives every waiter its own event, in order', async (t) => {
    const { fake, qmp } = await connected(t);
    using events = qmp.listen(['A']);
    const both = Promise.all([events.next(), events.next()]);
    fake.emit('A', { n: 1 });
    fake.emit('A', { n: 2 });
    t.match(await both, [{ data: { n: 1 } }, { data: { n: 2 } }]);
  });
  await t.test('loses no event to an aborted waiter', async (t) => {
    const { fake, qmp } = await connected(t);
    using events = qmp.listen(['A']);
    t.equal((await failure(events.next({ signal: AbortSignal.abort() }))).kind, 'Canceled');
    const abort = new AbortController();
    const aborted = failure(events.next({ signal: abort.signal }));
    abort.abort();
    t.match(await aborted, { kind: 'Canceled', message: /waiting for QMP event A/ });
    fake.emit('A', { n: 1 });
    t.match(await events.next(), { data: { n: 1 } });
  });
  await t.test('hears nothing after its disposal', async (t) => {
    const { fake, qmp } = await connected(t);
    const events = qmp.listen(['A']);
    const waiting = failure(events.next());
    events[Symbol.dispose]();
    events[Symbol.dispose]();
    t.equal((await waiting).kind, 'FailedPrecondition');
    using others = qmp.listen(['A']);
    fake.emit('A');
    await others.next();
    t.equal((await failure(events.next())).kind, 'FailedPrecondition');
  });
  await t.test('says so when it overflows, after giving what it kept', async (t) => {
    const { fake, qmp } = await connected(t);
    using events = qmp.listen(['A'], { limit: 2 });
    using all = qmp.listen(['A']);
    for (const n of [1, 2, 3]) fake.emit('A', { n });
    for (let i = 0; i < 3; i++) await all.next();
    t.match(await events.next(), { data: { n: 1 } });
    t.match(await events.next(), { data: { n: 2 } });
    t.match(await failure(events.next()), { kind: 'ResourceExhausted', message: /more than 2/ });
    await t.rejects(async () => {
      for await (const event of events) t.fail('nothing is left', { event });
    }, /more than 2/);
  });
  await t.test('is iterated until the connection ends', async (t) => {
    const { fake, qmp } = await connected(t);
    using events = qmp.listen(['A']);
    for (const n of [1, 2]) fake.emit('A', { n });
    fake.hangUp();
    const seen: unknown[] = [];
    for await (const { data } of events) seen.push(data['n']);
    t.same(seen, [1, 2]);
  });
});

void t.test('onEvent handlers see all events before the answer that follows them', async (t) => {
  const fake = await FakeQemu.start(t);
  const seen: string[] = [];
  fake.on('qmp_capabilities', ({ id }) => {
    // In one write: a handler added after connect() would miss the event.
    fake.sendRaw(`{"return": {}, "id": ${String(id)}}\r\n{"event": "EARLY"}\r\n`);
    return 'silence';
  });
  using qmp = await QmpClient.connect(fake.path, { onEvent: ({ name }) => seen.push(name) });
  const later: string[] = [];
  fake.on('stop', () => {
    fake.emit('STOP');
    return { return: {} };
  });
  const handler = qmp.onEvent(({ name }) => later.push(name));
  await qmp.execute('stop');
  handler[Symbol.dispose]();
  await qmp.execute('stop');
  t.same(seen, ['EARLY', 'STOP', 'STOP']);
  t.same(later, ['STOP']);
});

void t.test('whatever bytes come, the client ends or lives on, and never throws elsewhere', async (t) => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc.json().map((text) => Buffer.from(`${text}\r\n`)),
    fc
      .tuple(fc.constantFrom('event', 'return', 'error', 'id', 'QMP'), fc.jsonValue(), fc.nat(4))
      .map(([key, value, id]) => Buffer.from(`${JSON.stringify({ id, [key]: value })}\r\n`)),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 6 }), async (pieces) => {
      const undo: (() => unknown)[] = [];
      const fake = await FakeQemu.start({ teardown: (f) => undo.push(f) });
      fake.on('ask', () => 'silence');
      const qmp = await QmpClient.connect(fake.path);
      const arrival = fake.arrival('ask');
      const asked = qmp.execute('ask').catch((error: unknown) => {
        if (!VmError.is(error)) throw error;
      });
      await arrival;
      for (const bytes of pieces) fake.sendRaw(bytes);
      fake.hangUp();
      await qmp.closed;
      await asked;
      for (const f of undo.reverse()) await f();
    }),
    { numRuns: 60 },
  );
  t.pass('60 streams');
});
