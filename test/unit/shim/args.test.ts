import t from 'tap';
import { parseShimArgs } from '../../../src/shim/args.ts';

const containerds = '-namespace k8s.io -address /run/c.sock -publish-binary /usr/bin/containerd -id c1'.split(
  ' ',
);
const flags = {
  namespace: 'k8s.io',
  id: 'c1',
  address: '/run/c.sock',
  publishBinary: '/usr/bin/containerd',
  bundle: '',
  debug: false,
};

void t.test('what containerd writes', (t) => {
  t.same(parseShimArgs([...containerds, 'start']), { action: 'start', flags });
  t.same(parseShimArgs([...containerds, '-debug', 'start']), {
    action: 'start',
    flags: { ...flags, debug: true },
  });
  t.same(parseShimArgs([...containerds, '-bundle', '/b', 'delete']), {
    action: 'delete',
    flags: { ...flags, bundle: '/b' },
  });
  t.same(parseShimArgs(['-info']), { action: 'info' });
  t.same(parseShimArgs(['-v']), { action: 'version' });
  t.same(parseShimArgs(['-version']), { action: 'version' });
  t.end();
});

void t.test('the syntax of Go’s flags', (t) => {
  const minimal = { ...flags, address: '', publishBinary: '' };
  const expected = { action: 'start', flags: { ...minimal, debug: true } };
  for (const words of [
    ['--namespace', 'k8s.io', '--id', 'c1', '--debug', 'start'],
    ['-namespace=k8s.io', '-id=c1', '-debug=true', 'start'],
    ['--namespace=k8s.io', '--id=c1', '-debug=1', 'start', '-namespace', 'ignored'],
    ['-id', 'other', '-namespace', 'k8s.io', '-id', 'c1', '-debug=T', '--', 'start'],
  ]) {
    t.same(parseShimArgs(words), expected, words.join(' '));
  }
  t.same(parseShimArgs(['-id=c1', '-namespace=k8s.io', '-debug=false', 'start']), {
    action: 'start',
    flags: minimal,
  });
  t.same(parseShimArgs(['-id=c1', '-namespace=k8s.io', '-address=a=b', 'start']), {
    action: 'start',
    flags: { ...minimal, address: 'a=b' },
  });
  t.same(parseShimArgs(['-bundle', '-id', '-id=c1', '-namespace=k8s.io', 'delete']), {
    action: 'delete',
    flags: { ...minimal, bundle: '-id' },
  });
  t.end();
});

void t.test('what it refuses', (t) => {
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [[], /flag -namespace is missing/],
    [['-namespace', 'n', 'start'], /flag -id is missing/],
    [['-namespace=', '-id=c', 'start'], /flag -namespace is missing/],
    [['-namespace=n', '-id=a/b', 'start'], /flag -id is "a\/b", which is no containerd identifier/],
    [['-namespace=n', '-id=../x', 'start'], /flag -id/],
    [['-namespace=n', `-id=${'x'.repeat(77)}`, 'start'], /76 at most/],
    [['-namespace=n', '-id=a..b', 'start'], /flag -id/],
    [['-namespace=n', '-id=c'], /the action is missing/],
    [['-namespace=n', '-id=c', 'run'], /action "run" is not known/],
    [['-namespace=n', '-id=c', '-'], /action "-" is not known/],
    [['-namespace=n', '-id=c', '-x1', 'start'], /flag -x1 is not known; containerd gives -namespace -id/],
    [['-h'], /flag -h is not known/],
    [['-debug=maybe', 'start'], /flag -debug takes true or false, not "maybe"/],
    [['-id'], /flag -id needs a value/],
  ];
  for (const [words, message] of cases) {
    t.throws(
      () => parseShimArgs(words),
      { name: 'VmError', kind: 'InvalidArgument', message },
      words.join(' '),
    );
  }
  t.same(parseShimArgs(['-namespace=n', `-id=${'x'.repeat(76)}`, 'start']).action, 'start');
  t.end();
});
