import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { readHandovers } from '../../src/net/handover.ts';
import { CniChain, type CniAttachment, CniFailure, runCniPlugin } from '../support/cni-chain.ts';
import { type CniLab, cniLab } from '../support/cni-lab.ts';
import { type Teardown, tempDir } from '../support/temp-dir.ts';
import { testNetns, type TestNetns } from '../support/test-netns.ts';

/** No other test's, so that it would show if it were made outside of the test's namespaces. */
const BRIDGE = `vtbr${process.pid}`;
const V4 = '10.201.7.0/24';
const V6 = 'fd00:201::/64';

const lab = (t: Teardown): CniLab => cniLab(t, BRIDGE);

void t.test('the plugins of a pod’s chain work on the result, in every version they know', async (t) => {
  const { node, stateDir, vmTap, pod, left } = lab(t);
  for (const cniVersion of ['0.3.1', '0.4.0', '1.0.0']) {
    const chain = new CniChain(node.name, {
      cniVersion,
      name: 'vms',
      plugins: [
        vmTap(V4),
        // Debian's does not know 0.3.1.
        ...(cniVersion === '0.3.1' ? [] : [{ type: 'firewall' }]),
        { type: 'portmap', capabilities: { portMappings: true } },
      ],
    });
    const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }];
    const attachment = pod(`pod-${cniVersion}`, { capabilityArgs: { portMappings } });
    const result = await chain.add(attachment);

    t.equal(result.cniVersion, cniVersion);
    const [eth0, tap] = result.interfaces;
    t.match(eth0, { name: 'eth0', sandbox: attachment.netns });
    t.match(result.ips, [{ interface: 0, gateway: '10.201.7.1' }]);
    const [handover] = readHandovers(new LinuxHost(), stateDir, attachment.sandboxId);
    t.match(handover, { tap: tap?.name, netns: attachment.netns, guest: { mac: eth0?.mac } });
    t.equal(`${handover?.guest.addresses[0]?.address ?? ''}/24`, result.ips[0]?.address);

    const inside = attachment.netns.split('/').at(-1) ?? '';
    t.same(linksOf(inside), ['lo'], 'the pod’s namespace holds no link');
    t.match(
      node.exec('iptables', '-t', 'nat', '-S'),
      `--to-destination ${handover?.guest.addresses[0]?.address ?? ''}:80`,
    );
    if (cniVersion !== '0.3.1') await checkAll(chain, attachment);

    await chain.del(attachment);
    await chain.del({ ...attachment, netns: '' });
    t.notMatch(node.exec('iptables', '-t', 'nat', '-S'), '--to-destination');
    t.same(left(), []);
  }
  t.notOk(existsSync(`/sys/class/net/${BRIDGE}`), 'the machine’s own namespace was left alone');
});

void t.test('a guest that does what its hand-over says is reached, also by a port of the node', async (t) => {
  const { node, stateDir, vmTap, pod, left } = lab(t);
  const chain = new CniChain(node.name, {
    cniVersion: '1.0.0',
    name: 'vms',
    plugins: [vmTap(V4, V6), { type: 'portmap', capabilities: { portMappings: true } }],
  });
  const attachment = pod('reached', {
    capabilityArgs: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] },
  });
  await chain.add(attachment);
  const [handover] = readHandovers(new LinuxHost(), stateDir, 'reached');
  if (handover === undefined) throw new Error('no hand-over');
  const { guest, tap } = handover;

  // A veth in the place of TAP and guest.
  const inGuest = testNetns(t);
  node.exec('ip', 'link', 'add', tap, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', inGuest.name);
  node.exec('ip', 'link', 'set', tap, 'master', BRIDGE, 'up');
  inGuest.exec('ip', 'link', 'set', 'eth0', 'address', guest.mac, 'mtu', String(guest.mtu), 'up');
  for (const { address, prefixLength } of guest.addresses) {
    const noDad = address.includes(':') ? ['nodad'] : [];
    inGuest.exec('ip', 'address', 'add', `${address}/${prefixLength}`, 'dev', 'eth0', ...noDad);
  }
  for (const { destination, gateway } of guest.routes) {
    inGuest.exec('ip', 'route', 'add', destination, 'via', gateway ?? '');
  }
  await t.rejects(checkAll(chain, attachment), {
    message: /^eth0 of sandbox reached: the spoof guard of TAP \w+ is gone/,
  });

  const outside = testNetns(t);
  node.exec('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'up0', 'netns', outside.name);
  for (const [side, last] of [
    [node, 1],
    [outside, 2],
  ] as const) {
    side.exec('ip', 'address', 'add', `192.0.2.${last}/24`, 'dev', 'up0');
    side.exec('ip', 'address', 'add', `2001:db8::${last}/64`, 'dev', 'up0', 'nodad');
    side.exec('ip', 'link', 'set', 'up0', 'up');
  }
  outside.exec('ip', 'route', 'add', V4, 'via', '192.0.2.1');
  outside.exec('ip', 'route', 'add', V6, 'via', '2001:db8::1');
  for (const { address } of guest.addresses) {
    t.match(outside.exec('busybox', 'ping', '-c', '3', '-W', '20', address), /[1-9] packets received/);
  }
  t.equal(await hello(inGuest, outside), 'hello from the guest');

  node.exec('ip', 'link', 'delete', tap);
  await chain.del(attachment);
  t.same(left(), []);
});

void t.test('CNI 1.1 over an IPAM plugin that knows 1.0 only', async (t) => {
  const { node, vmTap, pod, left, stateDir } = lab(t);
  const chain = new CniChain(node.name, { cniVersion: '1.1.0', name: 'vms', plugins: [vmTap(V4, V6)] });
  await chain.status();
  const [kept, stale] = [pod('kept'), pod('stale')];
  t.match(await chain.add(kept), {
    interfaces: [{ mtu: 1500 }, { mtu: 1500 }],
    ips: [{ address: '10.201.7.2/24' }, { address: 'fd00:201::2/64' }],
    routes: [
      { dst: '0.0.0.0/0', gw: '10.201.7.1' },
      { dst: '::/0', gw: 'fd00:201::1' },
    ],
  });
  const { ips } = await chain.add(stale);
  await chain.check(kept);
  await t.rejects(chain.check(kept, { interfaces: [{ name: 'eth0', sandbox: kept.netns }], ips }), {
    code: 104,
    message: /prevResult has addresses 10.201.7.3\/24, fd00:201::3\/64, the hand-over file 10.201.7.2\/24/,
  });
  await chain.gc([kept]);
  t.same(left().sort(), ['10.201.7.2', 'fd00:201::2', 'kept']);
  await chain.check(kept);
  await chain.del(kept);
  t.same(left(), []);
  await t.rejects(chain.check(kept), { code: 104, message: /its hand-over file is gone/ });
  t.same(readHandovers(new LinuxHost(), stateDir, 'kept'), []);
});

void t.test(
  'many pods at once get one bridge and an address each; a full range is host-local’s to tell',
  async (t) => {
    const { node, vmTap, pod, left } = lab(t);
    const chain = new CniChain(node.name, {
      cniVersion: '1.0.0',
      name: 'vms',
      plugins: [vmTap('10.201.7.0/29')],
    });
    const pods = Array.from({ length: 5 }, (_, i) => pod(`pod-${i}`));
    const results = await Promise.all(pods.map((attachment) => chain.add(attachment)));
    t.equal(new Set(results.map(({ ips }) => ips[0]?.address)).size, 5);
    t.equal(new Set(results.flatMap(({ interfaces }) => interfaces.map(({ mac }) => mac))).size, 10);
    t.same(linksOf(node.name), ['lo', BRIDGE]);

    const one = pod('one-too-many');
    await t.rejects(chain.add(one), {
      code: 101,
      message: /^IPAM plugin "host-local" of network "vms" failed.*no IP addresses/,
    });
    await chain.del(one);
    await Promise.all(pods.map((attachment) => chain.del(attachment)));
    t.same(left(), []);
    t.equal((await chain.add(one)).ips.length, 1);
    await chain.del(one);
  },
);

void t.test('the static plugin, routed, with the address that the pod asks for', async (t) => {
  const { node, stateDir, pod, left } = lab(t);
  const chain = new CniChain(node.name, {
    cniVersion: '1.0.0',
    name: 'vms',
    plugins: [
      {
        type: 'vm-tap',
        mode: 'routed',
        mtu: 1450,
        stateDir,
        capabilities: { ips: true, mac: true, dns: true },
        ipam: { type: 'static', routes: [{ dst: '198.51.100.0/24' }] },
      },
    ],
  });
  const attachment = pod('routed', {
    ifName: 'net1',
    capabilityArgs: {
      ips: ['10.201.9.9/24', 'fd00:209::9/64'],
      mac: '02:00:00:00:00:09',
      dns: { Servers: ['10.96.0.10'], Searches: ['svc.cluster.local'] },
    },
  });
  t.match(await chain.add(attachment), {
    ips: [
      { address: '10.201.9.9/32', gateway: '169.254.1.1' },
      { address: 'fd00:209::9/128', gateway: 'fe80::1' },
    ],
    dns: { nameservers: ['10.96.0.10'], search: ['svc.cluster.local'] },
  });
  t.match(readHandovers(new LinuxHost(), stateDir, 'routed'), [
    {
      attachment: { kind: 'routed' },
      guest: {
        ifName: 'net1',
        mac: '02:00:00:00:00:09',
        mtu: 1450,
        routes: [
          { destination: '198.51.100.0/24', gateway: '169.254.1.1' },
          { destination: '10.201.9.0/24', gateway: '169.254.1.1' },
          { destination: 'fd00:209::/64', gateway: 'fe80::1' },
        ],
        dns: { nameservers: ['10.96.0.10'], search: ['svc.cluster.local'] },
      },
    },
  ]);
  t.equal(
    node.exec('cat', '/proc/sys/net/ipv4/ip_forward', '/proc/sys/net/ipv6/conf/all/forwarding'),
    '1\n1\n',
  );
  await chain.check(attachment);
  await chain.del({ ...attachment, netns: '' });
  t.same(left(), []);
});

void t.test(
  'plugins that would tune the pod’s link leave a pod in peace that asks for no tuning of it',
  async (t) => {
    const { node, vmTap, pod, left } = lab(t);
    const chain = new CniChain(node.name, {
      cniVersion: '1.0.0',
      name: 'vms',
      plugins: [
        vmTap(V4),
        { type: 'bandwidth', capabilities: { bandwidth: true } },
        { type: 'tuning', sysctl: { 'net.core.somaxconn': '777' } },
      ],
    });
    const attachment = pod('tuned');
    t.match(await chain.add(attachment), { interfaces: [{ name: 'eth0' }, {}] });
    const inside = ['netns', 'exec', attachment.netns.slice('/run/netns/'.length)];
    t.equal(
      execFileSync('ip', [...inside, 'cat', '/proc/sys/net/core/somaxconn'], { encoding: 'utf8' }),
      '777\n',
    );
    await chain.del(attachment);
    await chain.del({ ...attachment, netns: '' });
    t.same(left(), []);
  },
);

void t.test('a sandbox made anew for the same pod keeps TAP and MAC address', async (t) => {
  const { node, vmTap, pod } = lab(t);
  const chain = new CniChain(node.name, {
    cniVersion: '1.0.0',
    name: 'vms',
    plugins: [vmTap(V4)],
  });
  const args = { K8S_POD_UID: 'the-pod' };
  const results = [];
  for (const sandboxId of ['first', 'second']) {
    const attachment = pod(sandboxId, { args });
    results.push(await chain.add(attachment));
    await chain.del(attachment);
  }
  const identity = results.map(({ interfaces }) => interfaces.map(({ name, mac }) => [name, mac]));
  t.same(identity[0], identity[1]);
});

void t.test('run by the name under which runtimes look for it, and by hand', async (t) => {
  const { node } = lab(t);
  const directory = tempDir(t);
  symlinkSync(join(import.meta.dirname, '../../bin/vm-tap'), join(directory, 'vm-tap'));
  const run = (environment: Record<string, string>): Promise<string> =>
    runCniPlugin('vm-tap', {
      node: node.name,
      environment,
      stdin: '{"cniVersion":"1.0.0"}',
      directories: [directory],
    });
  t.same(JSON.parse(await run({ CNI_COMMAND: 'VERSION' })), {
    cniVersion: '1.0.0',
    supportedVersions: ['0.3.1', '0.4.0', '1.0.0', '1.1.0'],
  });
  t.equal(await run({}), '', 'without a command it only tells what it is');
  await t.rejects(run({ CNI_COMMAND: 'ADD' }), {
    code: 4,
    message: /^CNI_PATH, CNI_NETNS, CNI_CONTAINERID, CNI_IFNAME/,
  });
});

/** CHECK of a chain that ends with portmap: Debian's 1.1.1 fails for every pod without IPv6 ports, or with both families. */
async function checkAll(chain: CniChain, attachment: CniAttachment): Promise<void> {
  try {
    await chain.check(attachment);
  } catch (error) {
    const known =
      error instanceof CniFailure && error.plugin === 'portmap' && /ipv6 dnat/.test(error.message);
    if (!known) throw error;
  }
}

/** Names of the links in a namespace of `ip netns`. */
function linksOf(name: string): string[] {
  const links = JSON.parse(execFileSync('ip', ['-n', name, '-j', 'link'], { encoding: 'utf8' })) as {
    ifname: string;
  }[];
  return links.map(({ ifname }) => ifname).sort();
}

/** Has the guest answer one connection on port 80, and asks for it by port 8080 of the node. */
async function hello(guest: TestNetns, outside: TestNetns): Promise<string> {
  const program = `const server = require('node:net').createServer((socket) => {
    socket.end('hello from the guest');
    server.close();
  });
  server.listen(80, () => console.log('listening'));`;
  const server = spawn('ip', ['netns', 'exec', guest.name, process.execPath, '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(server, 'close');
  await once(server.stdout, 'data');
  const said = outside.exec('busybox', 'nc', '192.0.2.1', '8080');
  await ended;
  return said;
}
