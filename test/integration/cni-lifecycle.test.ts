/** What runtimes do to a plugin beside ADD and DEL in turn: all at once, twice, halfway, and on a node that has changed. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { readHandovers } from '../../src/net/handover.ts';
import { guardTap } from '../../src/net/guard-point.ts';
import { guardRules } from '../../src/net/guard-rules.ts';
import { renderGuard } from '../../src/net/guard-script.ts';
import { CniChain, type CniPlugin } from '../support/cni-chain.ts';
import { type CniLab, cniLab } from '../support/cni-lab.ts';

const BRIDGE = `vtlc${process.pid}`;
const V4 = '10.202.7.0/24';
const V6 = 'fd00:202::/64';

function chainOf(lab: CniLab, plugin: CniPlugin, directories: readonly string[] = []): CniChain {
  const list = { cniVersion: '1.1.0', name: 'vms', plugins: [plugin] };
  return new CniChain(lab.node.name, list, directories);
}

/**
 * An IPAM plugin that is host-local, but stops in ADD: before it has an address, or after. It says so on one fifo, and goes
 * on when there is something to read on the other.
 */
function slowIpam(lab: CniLab, when: 'before' | 'after') {
  const [bin, started, gate] = ['bin', 'started', 'gate'].map((name) => join(lab.directory, name)) as [
    string,
    string,
    string,
  ];
  mkdirSync(bin);
  execFileSync('mkfifo', [started, gate]);
  const wait = `echo >${started}; read _ <${gate}`;
  const ask = 'answer=$(printf %s "$config" | /usr/lib/cni/host-local) || { echo "$answer"; exit 1; }';
  const script = [
    '#!/bin/sh',
    '[ "$CNI_COMMAND" = ADD ] || exec /usr/lib/cni/host-local',
    'config=$(cat)',
    // host-local does not know it yet, and is asked again in 1.0.
    `case $config in *'"cniVersion":"1.1.0"'*) printf %s "$config" | exec /usr/lib/cni/host-local; exit ;; esac`,
    ...(when === 'before' ? [wait, ask] : [ask, wait]),
    'printf %s "$answer"',
  ];
  writeFileSync(join(bin, 'slow-ipam'), `${script.join('\n')}\n`, { mode: 0o755 });
  const plugin = lab.vmTap(V4, V6);
  return {
    plugin: { ...plugin, ipam: { ...(plugin['ipam'] as object), type: 'slow-ipam' } },
    directories: [bin],
    started: async (): Promise<void> => {
      await once(createReadStream(started), 'data');
    },
    goOn: (): void => {
      writeFileSync(gate, '\n');
    },
  };
}

void t.test('twenty sandboxes come and go at once, in both families', async (t) => {
  const lab = cniLab(t, BRIDGE);
  const chain = chainOf(lab, lab.vmTap(V4, V6));
  const pods = Array.from({ length: 20 }, (_, i) => lab.pod(`pod-${i}`));
  const results = await Promise.all(pods.map((pod) => chain.add(pod)));
  for (const [count, values] of [
    [40, results.flatMap(({ ips }) => ips.map(({ address }) => address))],
    [40, results.flatMap(({ interfaces }) => interfaces.map(({ mac }) => mac))],
    [20, results.map(({ interfaces }) => interfaces[1]?.name)],
  ] as const) {
    t.equal(new Set(values).size, count);
  }
  await Promise.all(pods.map((pod) => chain.del(pod)));
  t.same(lab.left(), []);
});

void t.test('a second ADD changes nothing of the first', async (t) => {
  const lab = cniLab(t, BRIDGE);
  const chain = chainOf(lab, lab.vmTap(V4));
  const pod = lab.pod('twice');
  await chain.add(pod);
  const before = lab.left();
  await t.rejects(chain.add(pod), { code: 103, message: /^eth0 of sandbox twice has been added already/ });
  t.same(lab.left(), before);
  await chain.check(pod);
  await chain.del(pod);
  t.same(lab.left(), []);
});

for (const when of ['before', 'after'] as const) {
  void t.test(`DEL while ADD runs, ${when} it has an address`, async (t) => {
    const lab = cniLab(t, BRIDGE);
    const ipam = slowIpam(lab, when);
    const chain = chainOf(lab, ipam.plugin, ipam.directories);
    const pod = lab.pod('hasty');
    const adding = t.rejects(chain.add(pod), {
      code: 103,
      message: /^eth0 of sandbox hasty was deleted while it was being added/,
    });
    await ipam.started();
    await t.rejects(chain.add(pod), { code: 103, message: /^eth0 of sandbox hasty is being added/ });
    await chain.del(pod);
    ipam.goOn();
    await adding;
    t.same(lab.left(), []);
  });
}

void t.test('an ADD that is killed leaves what DEL finds, and GC', async (t) => {
  const lab = cniLab(t, BRIDGE);
  const ipam = slowIpam(lab, 'after');
  const killed = async (sandboxId: string): Promise<void> => {
    const chain = chainOf(lab, ipam.plugin, ipam.directories);
    const pids: number[] = [];
    chain.onSpawn = (pid) => pids.push(pid);
    const adding = t.rejects(chain.add(lab.pod(sandboxId)));
    await ipam.started();
    process.kill(pids[0] ?? 0, 'SIGKILL');
    // The plugin it ran lives on, with nobody to tell.
    ipam.goOn();
    await adding;
    t.equal(lab.left().length, 3, 'a file, and an address of each family');
  };
  const chain = chainOf(lab, ipam.plugin, ipam.directories);
  await killed('dead');
  t.same(readHandovers(new LinuxHost(), lab.stateDir, 'dead'), [], 'the shim sees no half NIC');
  await chain.del(lab.pod('dead'));
  t.same(lab.left(), []);

  await killed('forgotten');
  const others = chainOf(lab, { ...lab.vmTap(V4), name: 'others' });
  await others.gc([lab.pod('forgotten')]);
  t.equal(lab.left().length, 3, 'what the runtime knows stays');
  await chain.gc([]);
  t.same(lab.left(), []);
});

void t.test('DEL on a node that has changed', async (t) => {
  const lab = cniLab(t, BRIDGE);
  const chain = chainOf(lab, lab.vmTap(V4, V6));
  const pods = ['state', 'bridge', 'netns'].map((what) => lab.pod(what));
  for (const pod of pods) await chain.add(pod);
  const [state, bridge, netns] = pods as [(typeof pods)[0], (typeof pods)[0], (typeof pods)[0]];

  rmSync(join(lab.stateDir, 'cni', 'state'), { recursive: true });
  await chain.del(state);
  lab.node.exec('ip', 'link', 'delete', BRIDGE);
  await t.rejects(chain.check(bridge), { code: 104, message: /bridge ".*" does not exist on this node/ });
  await chain.del(bridge);
  await chain.del({ ...netns, netns: '/run/netns/gone' });
  t.same(lab.left(), []);
  rmSync(lab.stateDir, { recursive: true });
  for (const pod of pods) await chain.del({ ...pod, netns: '' });
});

void t.test('CHECK tells each way in which a VM’s TAP is not as it was', async (t) => {
  const lab = cniLab(t, BRIDGE);
  const { node } = lab;
  const chain = chainOf(lab, lab.vmTap(V4));
  const pod = lab.pod('drift');
  await chain.add(pod);
  const [handover] = readHandovers(new LinuxHost(), lab.stateDir, 'drift');
  if (handover === undefined) throw new Error('no hand-over');
  const { tap, attachment, guest } = handover;
  // As the shim does, but that it stays without one.
  node.exec('ip', 'tuntap', 'add', 'mode', 'tap', 'name', tap);
  node.exec('ip', 'link', 'set', tap, 'mtu', String(guest.mtu), 'master', BRIDGE, 'up');
  const point = guardTap(tap, attachment);
  const guarded = (): string =>
    node.exec('nft', `${guardRules(point.hook).script}${renderGuard(point, guest)}`);
  guarded();
  await chain.check(pod);

  const drifts: [string[], string[], RegExp][] = [
    [
      ['ip', 'link', 'set', tap, 'mtu', '1400'],
      ['ip', 'link', 'set', tap, 'mtu', '1500'],
      /MTU of TAP vt\w+ is 1400, the guest’s 1500/,
    ],
    [
      ['ip', 'link', 'set', BRIDGE, 'mtu', '1300'],
      ['ip', 'link', 'set', BRIDGE, 'mtu', '1500'],
      /MTU of its bridge is 1300/,
    ],
    [
      ['ip', 'link', 'set', tap, 'nomaster'],
      ['ip', 'link', 'set', tap, 'master', BRIDGE],
      /a port of no bridge and not of/,
    ],
    [['ip', 'link', 'set', tap, 'down'], ['ip', 'link', 'set', tap, 'up'], /TAP vt\w+ is down/],
    [
      ['ip', 'link', 'set', BRIDGE, 'down'],
      ['ip', 'link', 'set', BRIDGE, 'up'],
      /^eth0 of sandbox drift: bridge "\w+" is down; start it \(ip link set \w+ up\)$/,
    ],
    [['nft', 'flush', 'ruleset'], ['true'], /the spoof guard of TAP vt\w+ is gone/],
  ];
  for (const [change, back, message] of drifts) {
    node.exec(...(change as [string]));
    await t.rejects(chain.check(pod), { code: 104, message }, change.join(' '));
    node.exec(...(back as [string]));
  }
  guarded();
  await chain.check(pod);

  await chain.del(pod);
  t.match(node.exec('ip', 'link', 'show', tap), tap, 'DEL leaves the TAP to the VM');
  t.same(lab.left(), ['10.202.7.2'], 'and the address to a guest that may outlive its sandbox');
  await chain.gc([]);
  t.same(lab.left(), ['10.202.7.2'], 'as GC does');
  node.exec('ip', 'tuntap', 'del', 'mode', 'tap', 'name', tap);
  await chain.gc([]);
  t.same(lab.left(), [], 'until it ends');
});

void t.test('GC takes what is stale, and nothing else', async (t) => {
  const lab = cniLab(t, BRIDGE);
  const chain = chainOf(lab, lab.vmTap(V4, V6));
  const [kept, stale] = [lab.pod('kept'), lab.pod('stale')];
  const second = { ...kept, ifName: 'net1' };
  for (const pod of [kept, second, stale]) await chain.add(pod);
  await chain.gc([kept]);
  t.same(readdirSync(join(lab.stateDir, 'cni')), ['kept']);
  t.same(readdirSync(join(lab.stateDir, 'cni/kept')), ['eth0.json']);
  t.same(lab.left().toSorted(), ['10.202.7.2', 'fd00:202::2', 'kept']);
  await chain.check(kept);
  await chain.gc([]);
  t.same(lab.left(), []);
});
