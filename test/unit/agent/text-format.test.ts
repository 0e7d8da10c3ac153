import t from 'tap';
import { Counter } from '../../../src/agent/metrics/counters.ts';
import { renderMetrics } from '../../../src/agent/metrics/text-format.ts';

void t.test('families in Prometheus’ text format', (t) => {
  const text = renderMetrics([
    {
      name: 'a_bytes',
      help: 'One\nline \\ only.',
      type: 'gauge',
      samples: [
        { labels: { vm: 'a "b"\\\n' }, value: 1.5 },
        { labels: {}, value: Number.POSITIVE_INFINITY },
        { labels: {}, value: Number.NaN },
      ],
    },
    { name: 'empty', help: '', type: 'counter', samples: [] },
  ]);
  t.equal(
    text,
    '# HELP a_bytes One\\nline \\\\ only.\n# TYPE a_bytes gauge\na_bytes{vm="a \\"b\\"\\\\\\n"} 1.5\na_bytes +Inf\na_bytes NaN\n',
  );
  t.end();
});

void t.test('a counter counts by its labels', (t) => {
  const counter = new Counter('x_total', 'X.');
  counter.add({ a: '1' });
  counter.add({ a: '2' }, 5);
  counter.add({ a: '1' });
  t.same(counter.family().samples, [
    { labels: { a: '1' }, value: 2 },
    { labels: { a: '2' }, value: 5 },
  ]);
  t.end();
});
