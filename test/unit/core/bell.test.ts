import t from 'tap';
import { Bell } from '../../../src/core/bell.ts';

void t.test('a bell is heard until the listener goes, even in the middle of it', (t) => {
  const bell = new Bell();
  const heard: string[] = [];
  const first = bell.listen(() => {
    heard.push('first');
    first[Symbol.dispose]();
  });
  using _second = bell.listen(() => void heard.push('second'));
  bell.ring();
  bell.ring();
  t.same(heard, ['first', 'second', 'second']);
  t.end();
});
