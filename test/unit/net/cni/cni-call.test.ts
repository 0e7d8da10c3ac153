import t from 'tap';
import { parseCniCall } from '../../../../src/net/cni/cni-call.ts';

const VARIABLES = {
  CNI_COMMAND: 'ADD',
  CNI_CONTAINERID: 'c0ffee',
  CNI_NETNS: '/run/netns/pod',
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/opt/cni/bin:/usr/lib/cni',
  HOME: '/root',
};

void t.test('what the runtime says about a NIC', (t) => {
  const CNI_ARGS = 'IgnoreUnknown=1;K8S_POD_UID=uid-1;K8S_POD_NAME=a=b;MAC=52:54:00:AA:BB:CC';
  t.same(parseCniCall({ ...VARIABLES, CNI_ARGS }), {
    command: 'ADD',
    nic: {
      sandboxId: 'c0ffee',
      ifName: 'eth0',
      netns: '/run/netns/pod',
      owner: 'uid-1',
      mac: '52:54:00:aa:bb:cc',
    },
    environment: {
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: 'c0ffee',
      CNI_NETNS: '/run/netns/pod',
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/opt/cni/bin:/usr/lib/cni',
      CNI_ARGS,
    },
  });
  t.match(parseCniCall(VARIABLES), { nic: { owner: 'c0ffee', mac: undefined } });
  t.match(parseCniCall({ ...VARIABLES, CNI_ARGS: 'K8S_POD_UID=' }), { nic: { owner: 'c0ffee' } });
  t.same(parseCniCall({ CNI_COMMAND: 'VERSION' }), { command: 'VERSION' });
  t.match(parseCniCall({ CNI_COMMAND: 'GC', CNI_PATH: '/x' }), { command: 'GC' });
  t.end();
});

void t.test('DEL does without a namespace and whatever it does not need', (t) => {
  for (const CNI_NETNS of [undefined, '', 'gone']) {
    const call = parseCniCall({ ...VARIABLES, CNI_COMMAND: 'DEL', CNI_NETNS, CNI_ARGS: 'nonsense' });
    t.match(call, { command: 'DEL', nic: { sandboxId: 'c0ffee' } });
  }
  t.end();
});

void t.test('what is wrong is named, with code 4', (t) => {
  const cases: [Record<string, string | undefined>, string | RegExp][] = [
    [{ CNI_COMMAND: 'add' }, 'CNI_COMMAND is "add"; it must be one of ADD, DEL, CHECK, GC, STATUS, VERSION'],
    [
      { CNI_NETNS: '', CNI_IFNAME: undefined },
      'CNI_NETNS, CNI_IFNAME must be set for CNI_COMMAND ADD; the container runtime has to say them',
    ],
    [{ CNI_COMMAND: 'STATUS', CNI_PATH: '' }, /^CNI_PATH must be set for CNI_COMMAND STATUS/],
    [{ CNI_CONTAINERID: '../etc' }, /^CNI_CONTAINERID is "..\/etc"; it must be letters/],
    [{ CNI_CONTAINERID: 'x'.repeat(256) }, /^CNI_CONTAINERID is/],
    [{ CNI_IFNAME: 'eth0/../..' }, /^CNI_IFNAME is "eth0\/..\/.."; it must be the name of a link/],
    [{ CNI_IFNAME: '..' }, /^CNI_IFNAME is/],
    [{ CNI_IFNAME: 'sixteen-letters-' }, /^CNI_IFNAME is/],
    [
      { CNI_NETNS: 'netns/pod' },
      'CNI_NETNS is "netns/pod"; it must be the absolute path of a network namespace',
    ],
    [{ CNI_ARGS: 'A=1;B' }, 'CNI_ARGS holds "B"; it must be a list KEY=VALUE;KEY=VALUE'],
    [
      { CNI_ARGS: 'MAC=01:00:5e:00:00:01' },
      /^MAC of CNI_ARGS is "01:00:5e:00:00:01"; it must be a unicast MAC/,
    ],
  ];
  for (const [change, message] of cases) {
    t.throws(() => parseCniCall({ ...VARIABLES, ...change }), { code: 4, message }, JSON.stringify(change));
  }
  t.end();
});
