import t from 'tap';
import { parseStdio } from '../../../src/shim/console/stdio-plan.ts';

const none = { stdin: '', stdout: '', stderr: '', terminal: false };

void t.test('addresses', (t) => {
  t.same(parseStdio(none), { stdin: undefined, stdout: { kind: 'discard' }, stderr: undefined });
  t.same(parseStdio({ stdin: '/io/in', stdout: '/io/out', stderr: '/io/err', terminal: true }), {
    stdin: '/io/in',
    stdout: { kind: 'path', path: '/io/out' },
    stderr: '/io/err',
  });
  const stdout = (value: string): unknown => parseStdio({ ...none, stdout: value }).stdout;
  t.same(stdout('file:///var/log/a%20b.log'), { kind: 'file', path: '/var/log/a b.log' });
  t.same(stdout('binary:///usr/bin/nerdctl?_NERDCTL_INTERNAL_LOGGING=%2Fvar%2Flib&flag=&flag=2&x=y'), {
    kind: 'logger',
    path: '/usr/bin/nerdctl',
    args: ['_NERDCTL_INTERNAL_LOGGING', '/var/lib', 'flag', 'x', 'y'],
  });
  t.same(parseStdio({ ...none, stdout: 'file:///a', stderr: 'file:///a' }).stderr, undefined);
  t.same(stdout('/odd:name//x'), { kind: 'path', path: '/odd:name//x' });
  t.end();
});

void t.test('what is no address, and what is not served', (t) => {
  const bad = (field: string, value: string, kind: string, message: RegExp): void => {
    t.throws(() => parseStdio({ ...none, [field]: value }), { kind, message }, `${field} ${value}`);
  };
  bad(
    'stdout',
    'relative/path',
    'InvalidArgument',
    /^stdout "relative\/path" is not an address: give an absolute path/,
  );
  bad('stderr', 'x', 'InvalidArgument', /^stderr "x"/);
  bad('stdin', 'x', 'InvalidArgument', /^stdin "x"/);
  bad('stdout', '/a\0b', 'InvalidArgument', /not an address/);
  bad('stdout', 'file://elsewhere/x', 'InvalidArgument', /not an address/);
  bad('stdout', 'file:///', 'InvalidArgument', /not an address/);
  bad('stdout', 'file:///%zz', 'InvalidArgument', /not an address/);
  bad('stdout', 'binary://', 'InvalidArgument', /not an address/);
  bad(
    'stdout',
    'ttrpc+unix:///run/x.sock?streaming_id=a-stdout',
    'Unimplemented',
    /remove io_type = "streaming"/,
  );
  bad('stdout', 'npipe:////./pipe/x', 'Unimplemented', /does not serve: give an absolute path/);
  bad('stdin', 'file:///x', 'Unimplemented', /stdin "file:\/\/\/x".*: give the absolute path of a fifo/);
  bad('stdin', 'binary:///x', 'Unimplemented', /stdin/);
  t.end();
});
