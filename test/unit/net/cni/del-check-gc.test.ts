import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { GUARD_REASONS } from '../../../../src/net/guard-rules.ts';
import { deriveMac } from '../../../../src/net/cni/guest-mac.ts';
import { tapName } from '../../../../src/net/tap-name.ts';
import { ANSWER_ADD, bridgeNetwork, callPlugin, failing, SANDBOX } from './support/call-plugin.ts';
import { NodeTree } from './support/node-tree.ts';

function nodeWithBridge(t: { teardown(undo: () => unknown): void }): NodeTree {
  const host = new NodeTree(t).putBridge('br0');
  host.putPlugin('fake-ipam', ANSWER_ADD);
  return host;
}

void t.test('DEL may come often, without anything there, and always gives addresses back', async (t) => {
  const host = nodeWithBridge(t);
  const network = bridgeNetwork(host);
  await callPlugin(host, 'ADD', network);
  await callPlugin(host, 'ADD', network, { CNI_IFNAME: 'net1' });
  const directory = join(host.stateDir, 'cni', SANDBOX);
  // What a vm-tap leaves that was killed.
  writeFileSync(join(directory, 'eth0.0123456789abcdef.adding'), '{"network":"vms"}');
  writeFileSync(join(directory, 'eth0.00112233445566ff.leaving'), '{');
  t.same(await callPlugin(host, 'DEL', network), { status: 0, answer: undefined });
  t.same(readdirSync(directory), ['net1.json']);
  for (const CNI_NETNS of ['', undefined]) {
    t.equal((await callPlugin(host, 'DEL', network, { CNI_NETNS, CNI_IFNAME: 'net1' })).status, 0);
  }
  t.notOk(existsSync(directory));
  t.same(host.calls.slice(2), [`DEL ${SANDBOX}/eth0`, `DEL ${SANDBOX}/net1`, `DEL ${SANDBOX}/net1`]);
});

void t.test(
  'DEL works with a damaged hand-over, without the bridge and with a mistake in the configuration',
  async (t) => {
    const host = nodeWithBridge(t);
    await callPlugin(host, 'ADD', bridgeNetwork(host));
    writeFileSync(join(host.stateDir, 'cni', SANDBOX, 'eth0.json'), '{');
    const broken = bridgeNetwork(host, { bridge: 7, isGatway: true });
    t.same(await callPlugin(host, 'DEL', broken), { status: 0, answer: undefined });
    t.same(readdirSync(join(host.stateDir, 'cni')), []);
  },
);

void t.test('DEL keeps the hand-over until the addresses are given back', async (t) => {
  const host = nodeWithBridge(t);
  const network = bridgeNetwork(host);
  await callPlugin(host, 'ADD', network);
  host.putPlugin('fake-ipam', failing(11, 'busy'));
  t.match(await callPlugin(host, 'DEL', network), { status: 1, answer: { code: 11 } });
  t.ok(existsSync(join(host.stateDir, 'cni', SANDBOX, 'eth0.json')));
});

/** As `nft get element` says that a guest is in a set. */
const COUNTERS = GUARD_REASONS.map(
  (reason) => `set dropped_${reason} { elements = { "vt" counter packets 0 bytes 0 } }`,
).join('\n');

void t.test('CHECK tells all that differs', async (t) => {
  const host = nodeWithBridge(t);
  const network = bridgeNetwork(host);
  const { answer } = await callPlugin(host, 'ADD', network);
  const prevResult = answer as { interfaces: object[]; ips: object[] };
  const check = async (more: object, change: object = {}): Promise<unknown> =>
    (await callPlugin(host, 'CHECK', { ...network, prevResult: { ...prevResult, ...change }, ...more }))
      .answer;
  const tap = tapName('uid-1', 'eth0');
  const mac = deriveMac('uid-1', 'eth0');

  t.equal(await check({}), undefined);
  t.equal(await check({}, { ips: prevResult.ips.toReversed(), dns: {}, routes: [] }), undefined);
  // A TAP is there while the VM runs.
  host.answer = (command) => (command.startsWith('nft') ? COUNTERS : '');
  host.putLink(tap, { mtu: 1500, master: 'br0' });
  t.equal(await check({}), undefined);

  t.match(await check({ prevResult: undefined }), { code: 7, msg: /^prevResult .* is missing/ });
  t.match(await check({}, { ips: [{ interface: 0, address: '10.1.0.6/24' }] }), {
    code: 104,
    msg: `eth0 of sandbox ${SANDBOX}: prevResult has addresses 10.1.0.6/24, the hand-over file 10.1.0.5/24, fd00:1::5/64`,
  });
  const other = [{ name: 'eth0', mac: '02:00:00:00:00:01', sandbox: host.netns }];
  t.match(await check({}, { interfaces: other, ips: [] }), {
    msg: new RegExp(
      `has addresses none, .*; prevResult has MAC address 02:.*, the hand-over file ${mac}; .* not name its TAP ${tap}`,
    ),
  });
  t.match(await check({}, { interfaces: [] }), { msg: /prevResult has no interface eth0 in/ });

  host.putBridge('br1');
  host.putLink(tap, { master: 'br1' });
  t.match(await check({ bridge: 'br1' }), {
    msg: new RegExp(
      `it was attached by bridge "br0", the network configuration says bridge "br1"; TAP ${tap} is a port of br1 and not of br0`,
    ),
  });

  host.putPlugin('fake-ipam', failing(100, 'not mine'));
  await callPlugin(host, 'CHECK', network);
  t.match(await check({ bridge: 'gone' }), {
    msg: /bridge "gone" does not exist.*; IPAM plugin .*: not mine/,
  });
  await callPlugin(host, 'DEL', { ...network, ipam: {} });
  t.match(await check({ ipam: {} }), { code: 104, msg: /its hand-over file is gone/ });
  t.match(await callPlugin(host, 'CHECK', { ...network, cniVersion: '0.3.1' }), {
    answer: { cniVersion: '0.3.1', code: 1, msg: /is 0.3.1, which has no CHECK; it came with 0.4.0$/ },
  });
});

void t.test('CHECK sees what limits the guest’s bandwidth', async (t) => {
  const host = nodeWithBridge(t);
  const limited = (EgressRate: number): object => ({
    runtimeConfig: { bandwidth: { IngressRate: 8_000_000, IngressBurst: 2 ** 32 - 1, EgressRate } },
  });
  const network = bridgeNetwork(host, limited(4_000_000));
  const { answer: prevResult } = await callPlugin(host, 'ADD', network);
  const check = async (more: object = {}): Promise<unknown> =>
    (await callPlugin(host, 'CHECK', { ...network, prevResult, ...more })).answer;
  t.equal(await check(), undefined, 'no VM runs yet');
  t.match(await check(limited(5_000_000)), {
    code: 104,
    msg: /runtimeConfig has the bandwidth limits received 8000000 bit\/s, sent 5000000 bit\/s, the hand-over file .* sent 4000000 bit\/s$/,
  });

  const tap = tapName('uid-1', 'eth0');
  host.putLink(tap, { mtu: 1500, master: 'br0' });
  const queue = (kind: string, rate: number): string => JSON.stringify([{ kind, options: { rate } }]);
  const queues =
    (sent: string) =>
    (command: string): string => {
      if (command.startsWith('nft')) return COUNTERS;
      return command.includes(` ${tap} `) ? queue('tbf', 1_000_000) : sent;
    };
  host.answer = queues(queue('tbf', 500_000));
  t.equal(await check(), undefined);
  host.answer = queues(queue('noqueue', 0));
  t.match(await check(), {
    code: 104,
    msg: /TAP vt\w+ has the bandwidth limits received 8000000 bit\/s and not/,
  });
});

void t.test('GC removes what is stale of its own network, and nothing else', async (t) => {
  const host = nodeWithBridge(t);
  const vms = bridgeNetwork(host);
  const others = bridgeNetwork(host, { name: 'others' });
  const add = async (network: object, CNI_CONTAINERID: string, CNI_IFNAME = 'eth0'): Promise<void> => {
    t.equal((await callPlugin(host, 'ADD', network, { CNI_CONTAINERID, CNI_IFNAME })).status, 0);
  };
  await add(vms, 'kept');
  await add(others, 'kept', 'net1');
  await add(vms, 'kept', 'net2');
  await add(vms, 'stale');
  const valid = [
    { containerID: 'kept', ifname: 'eth0' },
    { containerID: 'never-seen', ifname: 'eth0' },
  ];
  const gc = (list: unknown): ReturnType<typeof callPlugin> =>
    callPlugin(
      host,
      'GC',
      { ...vms, 'cni.dev/valid-attachments': list },
      { CNI_CONTAINERID: undefined, CNI_IFNAME: undefined },
    );
  for (const list of [undefined, null, 'none', [{}], [{ containerID: 'kept' }]]) {
    t.match(await gc(list), { status: 1, answer: { code: 7, msg: /cni.dev\/valid-attachments/ } });
  }
  const before = host.calls.length;
  t.same(await gc(valid), { status: 0, answer: undefined });
  t.same(host.calls.slice(before), ['DEL kept/net2', 'DEL stale/eth0', 'GC /']);
  t.same(readdirSync(join(host.stateDir, 'cni')), ['kept']);
  t.same(readdirSync(join(host.stateDir, 'cni/kept')), ['eth0.json', 'net1.json']);

  await add(vms, 'bad');
  await add(vms, 'worse');
  host.putPlugin('fake-ipam', `[ "$CNI_CONTAINERID" != bad ] || { ${failing(100, 'stuck')}; }`);
  t.match(await gc([]), {
    status: 1,
    answer: { code: 100, msg: /^not all of network "vms" could be cleaned: .*stuck$/ },
  });
  t.same(readdirSync(join(host.stateDir, 'cni')), ['bad', 'kept'], 'the rest is gone nevertheless');
});

void t.test('STATUS tells whether a pod could be added', async (t) => {
  const host = new NodeTree(t);
  const network = bridgeNetwork(host);
  const ask = async (more: object = {}): Promise<unknown> =>
    (
      await callPlugin(
        host,
        'STATUS',
        { ...network, ...more },
        { CNI_CONTAINERID: undefined, CNI_IFNAME: undefined },
      )
    ).answer;
  t.match(await ask(), { code: 50, msg: /^bridge "br0" does not exist/ });
  t.match(await ask({ isGateway: true }), { code: 50, msg: /^there is no IPAM plugin "fake-ipam"/ });
  host.putPlugin('fake-ipam', failing(50, 'no store'));
  t.match(await ask({ isGateway: true }), { code: 50, msg: /no store$/ });
  host.putBridge('br0');
  for (const code of [1, 3, 4]) {
    host.putPlugin('fake-ipam', failing(code, 'unknown CNI_COMMAND: STATUS'));
    t.equal(await ask(), undefined, 'a plugin from before 1.1 cannot tell');
  }
  t.match(await ask({ cniVersion: '1.0.0' }), { code: 1, msg: /which has no STATUS; it came with 1.1.0$/ });
});

void t.test('VERSION, and calls that are none', async (t) => {
  const host = new NodeTree(t);
  const supportedVersions = ['0.3.1', '0.4.0', '1.0.0', '1.1.0'];
  for (const [config, cniVersion] of [
    [{ cniVersion: '1.0.0' }, '1.0.0'],
    ['', '1.1.0'],
  ] as const) {
    t.same(await callPlugin(host, 'VERSION', config), {
      status: 0,
      answer: { cniVersion, supportedVersions },
    });
  }
  t.match(await callPlugin(host, 'ADD', 'x'), { status: 1, answer: { cniVersion: '1.1.0', code: 6 } });
  t.match(await callPlugin(host, 'REMOVE', { cniVersion: '0.4.0' }), {
    status: 1,
    answer: { cniVersion: '0.4.0', code: 4 },
  });
});

void t.test('a hand-over that nobody can trust is named, with what to do', async (t) => {
  const { readHandovers } = await import('../../../../src/net/handover.ts');
  const host = nodeWithBridge(t);
  await callPlugin(host, 'ADD', bridgeNetwork(host));
  const path = join(host.stateDir, 'cni', SANDBOX, 'eth0.json');
  const good = JSON.parse(readFileSync(path, 'utf8')) as { guest: object };
  const cases: [unknown, RegExp][] = [
    [{ ...good, version: 2 }, /^version of hand-over file .* must be 1, but is 2; delete the pod/],
    [{ ...good, tap: 'sixteen-letters-' }, /^tap of hand-over file/],
    [{ ...good, tap: '../x' }, /^tap of/],
    [{ ...good, attachment: { kind: 'bridge' } }, /^attachment.bridge of .* is missing/],
    [{ ...good, attachment: { kind: 'magic' } }, /^attachment.kind of/],
    [{ ...good, sandboxId: 'other' }, /is about eth0 of sandbox other; delete/],
    [{ ...good, guest: { ...good.guest, mac: '01:00:00:00:00:00' } }, /^guest.mac of/],
    [{ ...good, guest: { ...good.guest, mtu: '1500' } }, /^guest.mtu of/],
    [
      { ...good, guest: { ...good.guest, addresses: [{ address: '10.0.0.1', prefixLength: 33 }] } },
      /^guest.addresses\[0\].prefixLength of .* from 0 to 32/,
    ],
    [
      { ...good, guest: { ...good.guest, routes: [{ destination: 'default' }] } },
      /^guest.routes\[0\].destination of/,
    ],
    [[], /^hand-over file .* must be an object, but is a list/],
  ];
  for (const [value, message] of cases) {
    writeFileSync(path, JSON.stringify(value));
    t.throws(() => readHandovers(host, host.stateDir, SANDBOX), { kind: 'FailedPrecondition', message });
  }
  writeFileSync(path, '{');
  t.throws(() => readHandovers(host, host.stateDir, SANDBOX), {
    message: /eth0.json is no JSON; delete the pod/,
  });
  t.throws(() => readHandovers(host, host.stateDir, '../x'), {
    message: '"../x" is no id of a sandbox; use the one containerd gave it',
  });
  t.same(readHandovers(host, host.stateDir, 'unknown'), []);
});

void t.test('NICs come in the order the pod has them', async (t) => {
  const { readHandovers } = await import('../../../../src/net/handover.ts');
  const host = nodeWithBridge(t);
  for (const CNI_IFNAME of ['net10', 'net2', 'a0', 'eth0', 'net1']) {
    await callPlugin(host, 'ADD', bridgeNetwork(host), { CNI_IFNAME });
  }
  const names = readHandovers(host, host.stateDir, SANDBOX).map(({ guest }) => guest.ifName);
  t.same(names, ['eth0', 'a0', 'net1', 'net2', 'net10']);
});
