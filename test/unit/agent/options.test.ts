import t from 'tap';
import { parseOptions } from '../../../src/agent/options.ts';

void t.test('options of the agent', (t) => {
  t.match(parseOptions([], { NODE_NAME: 'node-1' }), {
    t: 'run',
    options: {
      nodeName: 'node-1',
      listen: { host: '127.0.0.1', port: 9464 },
      gcGraceMs: 3_600_000,
      debug: false,
    },
  });
  const listen = (text: string): unknown => {
    const command = parseOptions(['--node-name', 'n', '--listen', text, '--gc-grace', 'off'], {});
    return command.t === 'run' ? [command.options.listen, command.options.gcGraceMs] : command;
  };
  t.same(listen(':80'), [{ host: '::', port: 80 }, undefined]);
  t.same(listen('[::1]:0'), [{ host: '::1', port: 0 }, undefined]);
  t.same(parseOptions(['--help'], {}), { t: 'help' });
  t.same(parseOptions(['--version'], {}), { t: 'version' });
  t.end();
});

void t.test('wrong options are refused by a sentence', (t) => {
  const cases: [string[], RegExp][] = [
    [[], /--node-name is missing, and so is NODE_NAME/],
    [['--node-name', 'Node 1'], /--node-name is "Node 1"/],
    [['--node-name', 'n,spec.x=y'], /--node-name is/],
    [['--node-name', 'n', '--listen', '1.2.3.4'], /--listen is "1.2.3.4"/],
    [['--node-name', 'n', '--listen', '1.2.3.4:70000'], /--listen is/],
    [['--node-name', 'n', '--gc-grace', '1'], /--gc-grace is "1"/],
    [['--node-name', 'n', '--mount-namespace', 'host'], /--mount-namespace is "host"/],
    [['--nodename', 'n'], /--nodename.*--help/],
  ];
  for (const [argv, message] of cases)
    t.throws(() => parseOptions(argv, {}), { kind: 'InvalidArgument', message });
  t.end();
});
