import t from 'tap';
import { type Answer, noteAnswer, NO_REQUESTS, parseAnswer } from '../../support/chaos/request-ledger.ts';

const answer = (id: string, phase: string, message = ''): Answer => ({ id, phase, message });

function violations(...said: readonly (readonly [uid: string, answer: Answer])[]): readonly string[] {
  let known = NO_REQUESTS;
  return said.flatMap(([uid, answer]) => {
    const { ledger, violations } = noteAnswer(known, uid, answer);
    known = ledger;
    return violations;
  });
}

void t.test('a request goes through its phases to one end', (t) => {
  t.same(
    violations(
      ['a', answer('1', 'pending', 'waiting')],
      ['a', answer('1', 'running')],
      ['a', answer('1', 'pending', 'waiting for another one')],
      ['a', answer('1', 'running')],
      ['a', answer('1', 'done')],
      ['a', answer('1', 'done')],
      ['a', answer('2', 'failed', 'why')],
      // The same pod's annotation as another pod of its name has it.
      ['b', answer('1', 'running')],
    ),
    [],
  );
  t.end();
});

void t.test('what is over is over', (t) => {
  t.same(violations(['a', answer('1', 'failed', 'why')], ['a', answer('1', 'running')]), [
    'request "1" was failed (why), and is running',
  ]);
  t.same(violations(['a', answer('1', 'done')], ['a', answer('2', 'done')], ['a', answer('1', 'failed')]), [
    'request "1" was done, and is failed',
  ]);
  t.end();
});

void t.test('an annotation is read', (t) => {
  t.equal(parseAnswer(undefined), undefined);
  t.match(parseAnswer('{"id":"1","phase":"done","message":"","time":"x"}'), answer('1', 'done'));
  t.end();
});
