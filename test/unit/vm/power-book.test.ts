import t from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import { PowerBook } from '../../../src/vm/power-book.ts';
import { parsePowerRequest, type PowerRequest, type PowerStatus } from '../../../src/vm/power-request.ts';

const request = (id: string, action = 'stop', force = false): PowerRequest =>
  parsePowerRequest({ id, action, graceSeconds: 0, force }, () => 'made');

/** A book whose requests are done when the test says so. */
function lab(earlier: readonly PowerStatus[] = []) {
  const performed: string[] = [];
  const recorded: string[][] = [];
  const ends = new Map<string, PromiseWithResolvers<string>>();
  const book = new PowerBook({
    perform: ({ id }) => {
      performed.push(id);
      const end = Promise.withResolvers<string>();
      ends.set(id, end);
      return end.promise;
    },
    record: (statuses) => void recorded.push(statuses.map(({ id, phase }) => `${id} ${phase}`)),
    earlier,
  });
  return { book, performed, recorded, end: (id: string) => ends.get(id) };
}

void t.test('a request is carried out once, however often its id is asked', async (t) => {
  const { book, performed, recorded, end } = lab();
  const first = book.ask(request('a'));
  t.match(first.status, { id: 'a', action: 'stop', phase: 'running', message: '' });
  t.same(recorded, [['a running']], 'written down before it is begun');
  t.equal(book.ask(request('a')).status.phase, 'running');
  end('a')?.resolve('it is off');
  t.match(await first.settled, { id: 'a', phase: 'done', message: 'it is off' });
  t.match(book.ask(request('a')).status, { phase: 'done', message: 'it is off' });
  t.match(await book.ask(request('a')).settled, { phase: 'done' });
  t.same(performed, ['a']);
  t.match(book.last, { id: 'a', phase: 'done' });
  t.throws(() => book.ask(request('a', 'start')), {
    kind: 'InvalidArgument',
    message: /"a" was a stop before and is a start now/,
  });
});

void t.test('one at a time, but a forced stop ends the wait of a stop or reboot', async (t) => {
  const { book, end } = lab();
  const stop = book.ask(request('a', 'reboot'));
  t.throws(() => book.ask(request('b', 'reset')), {
    kind: 'FailedPrecondition',
    message:
      'cannot reset: the reboot of request "a" is under way; wait for it, or end it with a forced stop',
  });
  t.throws(() => book.ask(request('b', 'stop')), { message: /is under way/ });
  const forced = book.ask(request('c', 'stop', true));
  end('c')?.resolve('');
  await forced.settled;
  t.throws(() => book.ask(request('b', 'reset')), { message: /request "a" is under way/ });
  end('a')?.reject(new VmError('Aborted', 'it was stopped instead'));
  t.match(await stop.settled, { phase: 'failed', message: 'it was stopped instead' });
  t.equal(book.ask(request('b', 'reset')).status.phase, 'running');
  t.throws(() => book.ask(request('d', 'stop', true)), { message: /is under way/ });
});

void t.test('what an earlier process had begun has failed; what it had done stays done', async (t) => {
  const done = { id: 'a', action: 'stop', phase: 'done', message: '', at: 1 } as const;
  const begun = { id: 'b', action: 'start', phase: 'running', message: '', at: 2 } as const;
  const { book, performed } = lab([done, begun]);
  t.same(book.ask(request('a')).status, done);
  t.match(book.ask(request('b', 'start')).status, { phase: 'failed', message: /the shim ended before/ });
  t.match(await book.ask(request('b', 'start')).settled, { phase: 'failed' });
  t.same(performed, []);
});

void t.test('the last ones are remembered', async (t) => {
  const { book, recorded, end } = lab();
  for (let index = 0; index < 50; index++) {
    const { settled } = book.ask(request(`r${index}`, 'nmi'));
    end(`r${index}`)?.resolve('');
    await settled;
  }
  t.equal(recorded.at(-1)?.length, 32);
  t.equal(recorded.at(-1)?.[0], 'r18 done');
});

void t.test('a request that cannot be written down is not begun', (t) => {
  let works = false;
  const performed: string[] = [];
  const book = new PowerBook({
    perform: ({ id }) => (performed.push(id), Promise.resolve('')),
    record: () => {
      if (!works) throw new VmError('ResourceExhausted', 'no space');
    },
    earlier: [],
  });
  t.throws(() => book.ask(request('a')), { message: 'no space' });
  t.same(performed, []);
  works = true;
  t.equal(book.ask(request('a')).status.phase, 'running');
  t.end();
});

void t.test('a request is parsed at the edge', (t) => {
  const ask = { id: '', action: 'stop', graceSeconds: 0, force: false };
  t.same(
    parsePowerRequest(ask, () => 'made'),
    { id: 'made', action: 'stop', graceMs: 60_000, force: false },
  );
  t.match(
    parsePowerRequest({ ...ask, id: 'x', graceSeconds: 5 }, () => ''),
    { id: 'x', graceMs: 5_000 },
  );
  const refused: readonly (readonly [object, RegExp])[] = [
    [{ action: 'fly' }, /power action "fly" is none; give stop, start, .* or nmi/],
    [{ action: '' }, /power action "" is none/],
    [{ id: 'a b' }, /id of a power request is "a b"/],
    [{ id: 'x'.repeat(129) }, /1 to 128 printable/],
    [{ graceSeconds: 100_000 }, /100000 s; give at most 86400/],
    [{ action: 'reset', force: true }, /"reset" cannot be forced/],
  ];
  for (const [change, message] of refused) {
    t.throws(() => parsePowerRequest({ ...ask, ...change }, () => ''), { kind: 'InvalidArgument', message });
  }
  t.end();
});
