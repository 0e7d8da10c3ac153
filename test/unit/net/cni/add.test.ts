import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { VmError } from '../../../../src/core/errors.ts';
import { CNI_VERSIONS } from '../../../../src/net/cni/cni-version.ts';
import { deriveMac } from '../../../../src/net/cni/guest-mac.ts';
import { readHandovers } from '../../../../src/net/handover.ts';
import { tapName } from '../../../../src/net/tap-name.ts';
import { GOLDEN_RESULTS } from './golden-results.ts';
import { ANSWER_ADD, bridgeNetwork, callPlugin, failing, SANDBOX } from './support/call-plugin.ts';
import { NodeTree } from './support/node-tree.ts';

const FORWARDING4 = '/proc/sys/net/ipv4/ip_forward';
const FORWARDING6 = '/proc/sys/net/ipv6/conf/all/forwarding';

void t.test('the result in every version, and the same guest in the hand-over', async (t) => {
  for (const cniVersion of CNI_VERSIONS) {
    const host = new NodeTree(t).putBridge('br0', { mtu: 1400 });
    host.putPlugin('fake-ipam', ANSWER_ADD);
    const { status, answer } = await callPlugin(host, 'ADD', bridgeNetwork(host, { cniVersion }));
    t.equal(status, 0);
    const golden = JSON.stringify(GOLDEN_RESULTS[cniVersion])
      .replaceAll('NETNS', host.netns)
      .replaceAll('TAP', tapName('uid-1', 'eth0'))
      .replaceAll('TAIL', deriveMac('uid-1', 'eth0').slice(3));
    t.strictSame(answer, JSON.parse(golden), cniVersion);
    t.strictSame(readHandovers(host, host.stateDir, SANDBOX), [
      {
        version: 1,
        sandboxId: SANDBOX,
        netns: host.netns,
        tap: tapName('uid-1', 'eth0'),
        attachment: { kind: 'bridge', bridge: 'br0' },
        bandwidth: undefined,
        guest: {
          ifName: 'eth0',
          mac: deriveMac('uid-1', 'eth0'),
          mtu: 1400,
          addresses: [
            { address: '10.1.0.5', prefixLength: 24, gateway: '10.1.0.1' },
            { address: 'fd00:1::5', prefixLength: 64, gateway: 'fd00:1::1' },
          ],
          routes: [
            { destination: '10.96.0.0/12', gateway: '10.1.0.1' },
            { destination: '0.0.0.0/0', gateway: '10.1.0.1' },
            { destination: '::/0', gateway: 'fd00:1::1' },
          ],
          dns: { nameservers: ['10.96.0.10'], search: ['cluster.local', 'svc.cluster.local'] },
        },
      },
    ]);
    const directory = join(host.stateDir, 'cni', SANDBOX);
    t.same(readdirSync(directory), ['eth0.json']);
    t.equal(statSync(join(directory, 'eth0.json')).mode & 0o777, 0o600);
    t.same(host.calls, [`ADD ${SANDBOX}/eth0`]);
    t.same(host.commands, [], 'no command is run for a bridge that is there');
  }
});

void t.test('the IPAM plugin gets the configuration byte for byte', async (t) => {
  const host = new NodeTree(t).putBridge('br0');
  host.putPlugin('fake-ipam', ANSWER_ADD);
  const text = JSON.stringify(bridgeNetwork(host, { ipam: { type: 'fake-ipam', big: 'BIG' } })).replace(
    '"BIG"',
    '12345678901234567890',
  );
  t.equal((await callPlugin(host, 'ADD', text)).status, 0);
  t.same(host.calledWith, [`ADD ${SANDBOX}/eth0 ${text}`]);
});

void t.test('a pod’s further NIC takes no default route from the first', async (t) => {
  const host = new NodeTree(t).putBridge('br0');
  host.putPlugin('fake-ipam', ANSWER_ADD);
  const net1 = { CNI_IFNAME: 'net1' };
  const { answer } = await callPlugin(host, 'ADD', bridgeNetwork(host), net1);
  t.match(answer, { interfaces: [{ name: 'net1' }, {}], routes: [{ dst: '10.96.0.0/12' }] });
  t.equal((answer as { routes: unknown[] }).routes.length, 1);
  await callPlugin(host, 'DEL', bridgeNetwork(host), net1);
  const wanted = await callPlugin(host, 'ADD', bridgeNetwork(host, { isDefaultGateway: true }), net1);
  t.match(wanted.answer, { routes: [{ dst: '10.96.0.0/12' }, { dst: '0.0.0.0/0' }, { dst: '::/0' }] });
  await callPlugin(host, 'ADD', bridgeNetwork(host, { isDefaultGateway: false }));
  t.same(
    readHandovers(host, host.stateDir, SANDBOX).map(({ guest }) => [guest.ifName, guest.routes.length]),
    [
      ['eth0', 1],
      ['net1', 3],
    ],
  );
});

void t.test('a routed guest has no neighbours', async (t) => {
  const host = new NodeTree(t).put(FORWARDING4, '0\n').put(FORWARDING6, '1\n');
  host.putPlugin('fake-ipam', ANSWER_ADD);
  const { bridge: _, ...network } = bridgeNetwork(host, { mode: 'routed' });
  const eth0 = await callPlugin(host, 'ADD', network);
  t.match(eth0.answer, {
    interfaces: [{ mtu: 1500 }, { mtu: 1500 }],
    ips: [
      { address: '10.1.0.5/32', gateway: '10.1.0.1' },
      { address: 'fd00:1::5/128', gateway: 'fe80::1' },
    ],
    routes: [
      { dst: '10.96.0.0/12', gw: '10.1.0.1' },
      { dst: '0.0.0.0/0', gw: '10.1.0.1' },
      { dst: '::/0', gw: 'fe80::1' },
    ],
  });
  t.equal(host.get(FORWARDING4), '1');
  const net1 = await callPlugin(host, 'ADD', network, { CNI_IFNAME: 'net1' });
  t.match(net1.answer, {
    routes: [
      { dst: '10.96.0.0/12', gw: '10.1.0.1' },
      { dst: '10.1.0.0/24', gw: '10.1.0.1' },
      { dst: 'fd00:1::/64', gw: 'fe80::1' },
    ],
  });
  const bare = new NodeTree(t).put(FORWARDING4, '1\n');
  bare.putPlugin('fake-ipam', `echo '{"ips":[{"address":"10.1.0.5/24"}]}'`);
  t.match((await callPlugin(bare, 'ADD', { ...network, stateDir: bare.stateDir })).answer, {
    ips: [{ address: '10.1.0.5/32', gateway: '169.254.1.1' }],
    routes: [{ dst: '0.0.0.0/0', gw: '169.254.1.1' }],
  });
});

void t.test('a network without IPAM: the guest asks the bridge’s own DHCP server', async (t) => {
  const host = new NodeTree(t).putBridge('br0');
  const { answer } = await callPlugin(host, 'ADD', bridgeNetwork(host, { ipam: undefined }));
  t.match(answer, { ips: [], routes: [], dns: {} });
  t.match(readHandovers(host, host.stateDir, SANDBOX), [{ guest: { addresses: [] } }]);
});

void t.test('isGateway makes the bridge and puts the gateways on it', async (t) => {
  const host = new NodeTree(t)
    .put(FORWARDING4, '0\n')
    .put(FORWARDING6, '0\n')
    .put('/proc/net/ipv6_route', '');
  host.putPlugin('fake-ipam', ANSWER_ADD);
  host.answer = (command) => {
    if (command.startsWith('ip link add')) host.putBridge('br0', { mtu: 9000, up: false });
    if (command.startsWith('ip -batch')) host.putBridge('br0', { mtu: 9000 });
    return '';
  };
  const network = bridgeNetwork(host, { isGateway: true, mtu: 9000 });
  t.equal((await callPlugin(host, 'ADD', network)).status, 0);
  t.match(host.commands[0], /^ip link add name br0 mtu 9000 address 02(:[0-9a-f]{2}){5} type bridge$/);
  t.equal(
    host.commands[1],
    'ip -batch - <link set dev br0 up\n' +
      'address replace 10.1.0.1/24 dev br0\naddress replace fd00:1::1/64 dev br0 nodad\n',
  );
  t.same([host.get(FORWARDING4), host.get(FORWARDING6)], ['1', '1']);
  host.commands.length = 0;
  const gateways = [
    { local: '10.1.0.1', prefixlen: 24 },
    { local: 'fd00:1::1', prefixlen: 64 },
  ];
  host.putLink('br0', { mtu: 9000, linkinfo: { info_kind: 'bridge' }, addr_info: gateways });
  t.equal((await callPlugin(host, 'ADD', network, { CNI_CONTAINERID: 'other' })).status, 0);
  t.same(host.commands, [], 'what is there is not made again');
  host.putLink('br0', { mtu: 9000, linkinfo: { info_kind: 'bridge' }, addr_info: gateways.slice(0, 1) });
  t.equal((await callPlugin(host, 'ADD', network, { CNI_CONTAINERID: 'third' })).status, 0);
  t.same(host.commands, ['ip -batch - <address replace fd00:1::1/64 dev br0 nodad\n']);
});

void t.test('two pods at once make one bridge', async (t) => {
  const host = new NodeTree(t).put(FORWARDING4, '1').put(FORWARDING6, '1');
  host.putPlugin('fake-ipam', ANSWER_ADD);
  host.answer = (command) => {
    if (!command.startsWith('ip link add')) return '';
    host.putBridge('br0');
    throw new VmError('Internal', 'RTNETLINK answers: File exists');
  };
  t.equal((await callPlugin(host, 'ADD', bridgeNetwork(host, { isGateway: true }))).status, 0);
});

void t.test('IPv6 forwarding is not turned on where that would cut the node off', async (t) => {
  const advertised = `${'0'.repeat(32)} 00 ${'0'.repeat(32)} 00 ${'f'.repeat(32)} 00000400 00000001 00000000 00450003    uplink\n`;
  const host = new NodeTree(t)
    .putBridge('br0')
    .put(FORWARDING4, '1\n')
    .put(FORWARDING6, '0\n')
    .put('/proc/net/ipv6_route', advertised)
    .put('/proc/sys/net/ipv6/conf/uplink/accept_ra', '1\n');
  host.putPlugin('fake-ipam', ANSWER_ADD);
  const network = bridgeNetwork(host, { isGateway: true });
  const refused = await callPlugin(host, 'ADD', network);
  t.match(refused.answer, {
    code: 102,
    msg: /set net.ipv6.conf.uplink.accept_ra=2 and net.ipv6.conf.all.forwarding=1$/,
  });
  t.same(host.calls, [`ADD ${SANDBOX}/eth0`, `DEL ${SANDBOX}/eth0`], 'the addresses were given back');
  t.equal(host.get(FORWARDING6), '0\n');
  host.put('/proc/sys/net/ipv6/conf/uplink/accept_ra', '2\n');
  t.equal((await callPlugin(host, 'ADD', network)).status, 0);
  t.equal(host.get(FORWARDING6), '1');
});

void t.test('what a network cannot be attached to is told before addresses are asked for', async (t) => {
  const host = new NodeTree(t).putLink('eth9').putBridge('br-down', { up: false }).putBridge('br-flat');
  host.putPlugin('fake-ipam', ANSWER_ADD);
  const cases: [object, string | RegExp][] = [
    [
      {},
      /^bridge "br0" does not exist on this node; make it \(ip link add br0 type bridge; .*"isGateway": true/,
    ],
    [{ bridge: 'eth9' }, /^"eth9" is a link of this node but no Linux bridge; name a bridge/],
    [
      { bridge: 'eth9', isGateway: true },
      /^"eth9" is a link of this node but no Linux bridge; name a bridge/,
    ],
    [
      { bridge: 'br-flat', vlan: 7 },
      /^bridge "br-flat" does not keep VLANs apart, .* \(ip link set br-flat type bridge vlan_filtering 1\)$/,
    ],
    [{ bridge: 'br-down' }, 'bridge "br-down" is down; start it (ip link set br-down up)'],
    [{ mode: 'ovs' }, 'Open vSwitch has no bridge "br0"; make it (ovs-vsctl add-br br0)'],
    [
      { mode: 'ovs', bridge: 'none' },
      'mode "ovs" needs the command ovs-vsctl; install Open vSwitch (openvswitch-switch)',
    ],
    [
      { mode: 'ovs', bridge: 'ill' },
      /^cannot ask Open vSwitch for bridge "ill": .*database connection failed/,
    ],
  ];
  host.answer = (command) => {
    if (command.endsWith('none')) throw new VmError('NotFound', 'the command ovs-vsctl is not in /usr/bin');
    const why = command.endsWith('ill') ? 'status 1: database connection failed' : 'status 2';
    throw new VmError('Internal', `${command} ended with ${why}`);
  };
  for (const [more, msg] of cases) {
    const { status, answer } = await callPlugin(host, 'ADD', bridgeNetwork(host, more));
    t.match(
      { status, answer },
      { status: 1, answer: { cniVersion: '1.1.0', code: 102, msg } },
      JSON.stringify(more),
    );
  }
  host.answer = () => '';
  t.equal((await callPlugin(host, 'ADD', bridgeNetwork(host, { mode: 'ovs' }))).status, 0);
  t.same(host.calls, [`ADD ${SANDBOX}/eth0`, `DEL ${SANDBOX}/eth0`, `ADD ${SANDBOX}/eth0`]);
});

void t.test('what else ADD refuses', async (t) => {
  const host = new NodeTree(t).putBridge('br0');
  host.putPlugin('fake-ipam', ANSWER_ADD);
  const network = bridgeNetwork(host);
  t.match(await callPlugin(host, 'ADD', network, { CNI_NETNS: '/run/netns/gone-' }), {
    status: 1,
    answer: { code: 4, msg: 'CNI_NETNS is "/run/netns/gone-", where no network namespace is' },
  });
  t.match(await callPlugin(host, 'ADD', { ...network, prevResult: { interfaces: [] } }), {
    answer: { code: 7, msg: /must be the first of the plugins of network "vms"$/ },
  });
  t.equal((await callPlugin(host, 'ADD', network)).status, 0);
  t.match(await callPlugin(host, 'ADD', network), {
    answer: { code: 103, msg: /^eth0 of sandbox c0ffee has been added already/ },
  });
  t.same(host.calls, [`ADD ${SANDBOX}/eth0`], 'the first one keeps its addresses');
});

void t.test('IPAM that fails, with its reason and whether to try again', async (t) => {
  const cases: [string, object][] = [
    [
      failing(999, 'no addresses left'),
      { code: 101, msg: 'IPAM plugin "fake-ipam" of network "vms" failed with status 1: no addresses left' },
    ],
    [failing(11, 'the store is busy'), { code: 11, msg: /: the store is busy$/ }],
    ['echo broken >&2; exit 3', { code: 101, msg: /failed with status 3: broken$/ }],
    ['echo null; exit 3', { code: 101, msg: /failed with status 3: null$/ }],
    ['kill -9 $$', { code: 101, msg: /^IPAM plugin failed: .*fake-ipam ended with SIGKILL$/ }],
    [
      'echo nonsense',
      { code: 101, msg: /^the answer of IPAM plugin "fake-ipam" is no JSON; correct its configuration$/ },
    ],
    [
      'echo "{}"',
      { code: 101, msg: /^ips of the answer of IPAM plugin "fake-ipam" must be a list of at least one/ },
    ],
    [`echo '{"ips":[{"address":"10.1.0.5"}]}'`, { code: 101, msg: /^ips\[0\].address of .* must be a CIDR/ }],
    [
      `echo '{"ips":[{"address":"10.1.0.5/24","gateway":"fd00::1"}]}'`,
      { code: 101, msg: /^ips\[0\].gateway of .* must be an IPv4 address, but is "fd00::1"/ },
    ],
  ];
  for (const [script, answer] of cases) {
    const host = new NodeTree(t).putBridge('br0');
    host.putPlugin('fake-ipam', script);
    t.match(await callPlugin(host, 'ADD', bridgeNetwork(host)), { status: 1, answer }, script);
    t.same(readdirSync(join(host.stateDir, 'cni')), []);
  }
  const host = new NodeTree(t).putBridge('br0');
  t.match(await callPlugin(host, 'ADD', bridgeNetwork(host), { CNI_PATH: '/none:/nowhere' }), {
    answer: {
      code: 101,
      msg: /^there is no IPAM plugin "fake-ipam" in CNI_PATH \(\/none, \/nowhere\); install it there/,
    },
  });
});

void t.test('an IPAM plugin from before 1.1 is asked in 1.0', async (t) => {
  const host = new NodeTree(t).putBridge('br0');
  const old = `case $config in *'"cniVersion":"1.1.0"'*) ${failing(1, 'incompatible CNI versions')};; esac`;
  host.putPlugin('fake-ipam', `${old}\n${ANSWER_ADD}`);
  const network = bridgeNetwork(host);
  const { answer, status } = await callPlugin(host, 'ADD', network);
  t.match({ answer, status }, { status: 0, answer: { cniVersion: '1.1.0' } });
  t.equal((await callPlugin(host, 'CHECK', { ...network, prevResult: answer })).status, 0);
  t.match(host.calledWith.at(-1), '"prevResult":{"cniVersion":"1.0.0"');
  t.equal((await callPlugin(host, 'STATUS', network)).status, 0);
  t.equal((await callPlugin(host, 'DEL', network)).status, 0);
  t.equal(host.calls.filter((call) => call.startsWith('DEL')).length, 2);
});

void t.test('what fails after IPAM gives the addresses back', async (t) => {
  const host = new NodeTree(t).putBridge('br0');
  host.putPlugin('fake-ipam', ANSWER_ADD);
  host.rename = () => {
    throw new VmError('ResourceExhausted', 'no space left');
  };
  t.match(await callPlugin(host, 'ADD', bridgeNetwork(host)), {
    status: 1,
    answer: { code: 5, msg: 'no space left' },
  });
  t.same(host.calls, [`ADD ${SANDBOX}/eth0`, `DEL ${SANDBOX}/eth0`]);
  host.putPlugin('fake-ipam', `${ANSWER_ADD}; [ $CNI_COMMAND = ADD ] || { ${failing(100, 'jammed')}; }`);
  t.match(await callPlugin(host, 'ADD', bridgeNetwork(host)), {
    answer: { code: 100, msg: /^no space left; and its addresses could not be given back: IPAM .*: jammed$/ },
  });
  const [kept] = readdirSync(join(host.stateDir, 'cni', SANDBOX));
  t.match(kept, /^eth0\.[0-9a-f]{16}\.adding$/, 'GC finds what it has to try again');
});

void t.test('a call that is stopped says so, and gives the addresses back', async (t) => {
  const host = new NodeTree(t).putBridge('br0');
  host.putPlugin('fake-ipam', ANSWER_ADD);
  const { runPlugin } = await import('../../../../src/net/cni/run-plugin.ts');
  const variables = {
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: SANDBOX,
    CNI_NETNS: host.netns,
    CNI_IFNAME: 'eth0',
    CNI_PATH: host.plugins,
  };
  const output = await runPlugin(host, {
    variables,
    stdin: () => JSON.stringify(bridgeNetwork(host)),
    signal: AbortSignal.abort(),
  });
  t.equal(output.status, 1);
  t.match(JSON.parse(output.stdout), { code: 11 });
  t.same(readdirSync(join(host.stateDir, 'cni')), []);
});
