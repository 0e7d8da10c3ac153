import t from 'tap';
import { planQueues, planShaper, shaperName } from '../../../../src/net/shape.ts';
import { tapName } from '../../../../src/net/tap-name.ts';

const limit = { bitsPerSecond: 8_000_000, burstBytes: 131_072 };

void t.test('queues', (t) => {
  const both = { tap: 'vt1', mtu: 1500, bandwidth: { received: limit, sent: limit }, sender: 'tc' } as const;
  const line = (link: string): string =>
    `qdisc replace dev ${link} root handle 1: tbf rate 8000000bit burst 131072b limit 181072b`;
  t.same(
    planQueues(both).map((words) => words.join(' ')),
    [line('vt1'), line('vi1')],
  );
  t.same(planQueues({ ...both, bandwidth: { received: undefined, sent: undefined } }), []);
  const small = { received: { bitsPerSecond: 1000, burstBytes: 1 }, sent: undefined };
  t.match(
    planQueues({ ...both, mtu: 9000, bandwidth: small })[0]?.join(' '),
    /burst 9018b/,
    'one frame fits',
  );
  t.end();
});

void t.test('the shaper is named as the TAP is, and silent before it is up', (t) => {
  const tap = tapName('uid', 'eth0');
  t.equal(shaperName(tap).length, tap.length);
  t.not(shaperName(tap), tap);
  const commands = planShaper({ tap: 'vt1', mtu: 9000 }).map((words) => words.join(' '));
  t.same(commands, [
    'link add name vi1 mtu 9000 type ifb',
    'link set dev vi1 addrgenmode none',
    'link set dev vi1 up',
  ]);
  t.end();
});
