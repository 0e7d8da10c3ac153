import fc from 'fast-check';
import t from 'tap';
import { parsePowerRequest, POWER_ACTIONS } from '../../../src/agent/power/power-request.ts';
import {
  parsePowerAnswer,
  renderPowerAnswer,
  shimAnswer,
  type PowerAnswer,
} from '../../../src/agent/power/power-status.ts';

void t.test('a request is read', (t) => {
  for (const action of POWER_ACTIONS) {
    t.same(parsePowerRequest(JSON.stringify({ id: 'a', action })), {
      t: 'request',
      request: { id: 'a', action, graceSeconds: undefined, force: false },
    });
  }
  t.match(parsePowerRequest('{"id":"a","action":"stop","graceSeconds":30,"force":true}'), {
    request: { graceSeconds: 30, force: true },
  });
  t.end();
});

void t.test('what is wrong with a request is one sentence that names it, under its id', (t) => {
  const cases: [string, string, RegExp][] = [
    ['stop', '', /no JSON; write/],
    ['"stop"', '', /is "stop"; write an object/],
    ['[]', '', /write an object/],
    ['{"action":"stop"}', '', /"id" is missing/],
    ['{"id":"","action":"stop"}', '', /"id" is ""/],
    ['{"id":"a b","action":"stop"}', '', /without blanks/],
    ['{"id":7,"action":"stop"}', '', /"id" is 7; give a string/],
    ['{"id":"a"}', 'a', /"action" is missing; known are stop/],
    ['{"id":"a","action":"reset "}', 'a', /did you mean "reset"/],
    ['{"id":"a","action":"stop","grace":3}', 'a', /unknown key "grace"; there are id, action/],
    ['{"id":"a","action":"stop","graceSeconds":0}', 'a', /from 1 to 86400/],
    ['{"id":"a","action":"stop","graceSeconds":"9"}', 'a', /"graceSeconds" is "9"/],
    ['{"id":"a","action":"start","force":true}', 'a', /only "stop" can be forced/],
  ];
  for (const [text, id, sentence] of cases) {
    t.match(parsePowerRequest(text), { t: 'problem', id, sentence }, text);
  }
  const long = parsePowerRequest(JSON.stringify({ id: 'x'.repeat(5000), action: 'stop' }));
  t.ok(long.t === 'problem' && long.sentence.length < 300, 'it goes into an annotation');
  t.end();
});

void t.test('reading is total', (t) => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      const parsed = parsePowerRequest(text);
      return parsed.t === 'request' || parsed.sentence !== '';
    }),
  );
  fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (text) => void parsePowerAnswer(text)));
  t.end();
});

void t.test('a status is read as it was written', (t) => {
  const answer: PowerAnswer = {
    id: 'a',
    phase: 'failed',
    message: 'no "such"',
    time: '2026-01-02T03:04:05.678Z',
  };
  t.same(parsePowerAnswer(renderPowerAnswer(answer)), answer);
  t.equal(parsePowerAnswer(undefined), undefined);
  t.equal(parsePowerAnswer('{"id":"a","phase":"odd","time":""}'), undefined);
  t.same(shimAnswer({ id: 'a', phase: 'done', atMs: 1000 }), {
    ...{ id: 'a', phase: 'done', message: '', time: '1970-01-01T00:00:01.000Z' },
  });
  t.equal(shimAnswer({ id: '', phase: 'done' }), undefined);
  t.equal(shimAnswer(undefined), undefined);
  t.end();
});
