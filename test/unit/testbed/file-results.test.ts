import { Parser } from 'tap-parser';
import t from 'tap';
import { FileResults } from '../../../scripts/node/file-results.ts';

/** What scripts/node/run-job prints of files `names`; those in `failing` fail. */
function node(names: readonly string[], failing: readonly string[] = []): string {
  const lines = names.flatMap((name, index) => {
    const not = failing.includes(name) ? 'not ' : '';
    const end = not === '' ? [] : ['  ---', '  exitStatus: "1"', '  ...'];
    const body = ['    ok 1 - it is', '    1..1'];
    return [
      `# Subtest: ${name} in the node`,
      ...body,
      `${not}ok ${index + 1} - ${name} in the node # time=7ms`,
      ...end,
    ];
  });
  return ['TAP version 14', ...lines, `1..${names.length}`, ''].join('\n');
}

function results(): { results: FileResults; said: () => string } {
  let said = '';
  return { results: new FileResults((text) => (said += text)), said: () => said };
}

void t.test('one node’s TAP comes through as it is, in pieces of any size', (t) => {
  const all = node(['a', 'b', 'c'], ['b']);
  for (const size of [1, 7, 1000]) {
    const { results: one, said } = results();
    for (let at = 0; at < all.length; at += size) one.add(all.slice(at, at + size));
    one.end();
    t.equal(said(), all);
    t.match(one, { finished: 3, failed: true });
  }
  t.end();
});

void t.test('a file that hung its node is told of once, by the node that has its result', (t) => {
  const { results: two, said } = results();
  const first = node(['a', 'b']);
  two.add(first.slice(0, first.indexOf('ok 2 - b')));
  t.match(two, { finished: 1, failed: false });
  two.forget();
  two.add(node(['b', 'c']));
  two.end();
  t.equal(said(), node(['a', 'b', 'c']));
  t.equal(two.failed, false);
  t.end();
});

void t.test('one without a result is shown as far as it came, and has failed', (t) => {
  const { results: cut, said } = results();
  const first = node(['a', 'b']);
  cut.add(first.slice(0, first.indexOf('    1..1', first.indexOf('# Subtest: b'))));
  cut.end();
  t.match(said(), /# Subtest: b in the node\n {4}ok 1 - it is\n1\.\.1\n$/);
  t.equal(cut.failed, true);
  const parser = new Parser();
  parser.end(said());
  t.notOk(parser.ok, 'for who reads it as well');
  t.end();
});
