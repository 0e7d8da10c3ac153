import t from 'tap';
import {
  judgeExits,
  missingExits,
  NO_EXITS,
  noteDeafness,
  noteEnd,
  noteEvent,
  noteStart,
} from '../../support/chaos/exit-ledger.ts';

const event = { container: 'a', pid: 7, status: 137 };

void t.test('a process has exactly one exit event', (t) => {
  const running = noteStart(NO_EXITS, 'a');
  t.same(judgeExits(running), []);
  const ended = noteEnd(running, 'a');
  t.same(missingExits(ended), ['a']);
  t.match(judgeExits(ended), [/without an exit event/]);
  t.same(judgeExits(noteEvent(ended, event)), []);
  t.match(judgeExits(noteEvent(noteEvent(ended, event), event)), [/2 exit events: pid 7 status 137, pid 7/]);
  t.end();
});

void t.test('nobody listened', (t) => {
  const deaf = noteEnd(noteDeafness(noteStart(NO_EXITS, 'a')), 'a');
  t.same(judgeExits(deaf), []);
  t.match(
    judgeExits(noteEvent(noteEvent(deaf, event), event)),
    [/2 exit events/],
    'two are too many in any case',
  );
  const later = noteEnd(noteStart(deaf, 'b'), 'b');
  t.same(missingExits(later), ['b'], 'a process that began later had somebody who listened');
  t.end();
});

void t.test('containerd tells of a dead shim’s task itself', (t) => {
  const told = noteEvent(noteEnd(noteStart(NO_EXITS, 'a'), 'a'), event);
  t.same(judgeExits(noteEvent(told, { ...event, pid: 0 })), []);
  t.match(judgeExits(noteEvent(noteEvent(told, { ...event, pid: 0 }), event)), [/3 exit events/]);
  t.end();
});
