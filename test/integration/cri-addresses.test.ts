/**
 * What a real guest is told of its network, and what it can and cannot say there, whichever way its card joins it: DNS of
 * the pod, a default route of both families, and nothing in anybody else's name.
 */
import { closeSync, openSync } from 'node:fs';
import t, { type Test } from 'tap';
import { buildAddon } from '../../scripts/build-addon.ts';
import { loadNative } from '../../src/host/native.ts';
import { openPacketSocket } from '../../src/host/packet-socket.ts';
import { tapMac } from '../../src/net/tap-name.ts';
import { assembleBpf } from '../../src/net/dhcp/bpf-program.ts';
import { type CriNode, criContainerd } from '../support/cri-containerd.ts';
import { type BridgeNetwork, hostLocal, type NodeNetwork } from '../support/cri-node-network.ts';
import { type Attached, CriPod } from '../support/cri-pod.ts';
import { BROADCAST, ethernet, fragment, IPV4, ipv4, IPV6, ipv6, udp } from '../support/frames.ts';
import { guestFrames, MADE_UP_ROUTER } from '../support/spoofed-frames.ts';
import { testNetns } from '../support/test-netns.ts';

buildAddon();
const native = loadNative();
const ANSWERED = /[1-9]\d* packets received/;

interface Way {
  readonly plugins?: (network: BridgeNetwork, stateDir: string) => readonly object[];
  readonly gateway: string;
  /** Next hop of the guest's IPv6 default route. */
  readonly router: RegExp;
  /** Prefix lengths. */
  readonly prefixes: readonly [number, number];
  /** What the guest's DHCP client, which is a simple one, leaves to do for a gateway that is not on its network. */
  readonly routes: string;
  /** Whether what the guest may send reaches its neighbours as it is. */
  readonly onLink: boolean;
}

const BRIDGED = {
  gateway: '10.88.0.1',
  router: /fe80::76:6dff:fe00:1/,
  prefixes: [24, 64],
  routes: 'true',
  onLink: true,
} as const;
const ways: Readonly<Record<string, Way>> = {
  'a link that another plugin made': BRIDGED,
  'a TAP on the node’s bridge': {
    ...BRIDGED,
    plugins: (network, stateDir) => [
      { type: 'vm-tap', bridge: network.bridge, isGateway: true, stateDir, ipam: hostLocal(network) },
    ],
  },
  'a TAP with a route': {
    gateway: '10.89.0.1',
    router: /fe80::1 /,
    prefixes: [32, 128],
    routes: 'ip route add 10.89.0.1 dev eth0 && ip route add default via 10.89.0.1',
    onLink: false,
    plugins: (network, stateDir) => {
      const ipam = hostLocal({ ...network, prefix4: '10.89.0', prefix6: 'fd00:89:0:1' });
      return [{ type: 'vm-tap', mode: 'routed', stateDir, ipam }];
    },
  },
};

/** A host that is not on the guests' network but beyond the node, and what of the guest's frames it sees. */
interface Station {
  readonly seen: string[];
  until(frame: string): Promise<void>;
}

/** Another namespace, behind a link of the node's namespace, with these addresses. */
async function station(
  t: Test,
  network: NodeNetwork,
  link: string,
  ...addresses: readonly string[]
): Promise<Station> {
  const netns = testNetns(t);
  const fd = openSync(netns.path, 'r');
  t.teardown(() => closeSync(fd));
  const place = `/proc/${process.pid}/fd/${fd}`;
  await network.run('ip', 'link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', place);
  await network.run('ip', 'link', 'set', link, 'up');
  netns.exec('sh', '-c', 'echo 0 >/proc/sys/net/ipv6/conf/eth0/router_solicitations');
  netns.exec('ip', 'link', 'set', 'eth0', 'up');
  for (const address of addresses) {
    netns.exec('ip', 'address', 'add', address, 'dev', 'eth0', ...(address.includes(':') ? ['nodad'] : []));
  }
  const gateways = link === 'far0' ? ['203.0.113.1', 'fd00:203::1'] : [];
  for (const gateway of gateways) {
    netns.exec('ip', gateway.includes(':') ? '-6' : '-4', 'route', 'add', 'default', 'via', gateway);
  }
  const seen: string[] = [];
  const waiting = new Map<string, () => void>();
  const socket = openPacketSocket(native, {
    ifName: 'eth0',
    netns: netns.path,
    filter: assembleBpf([{ return: 4096 }]),
    budget: { frames: 10_000, windowMs: 1000 },
    onFrame: (frame) => {
      const hex = Buffer.from(frame).toString('hex');
      seen.push(hex);
      for (const [part, done] of waiting) if (hex.includes(part)) done();
    },
  });
  t.teardown(() => socket.close());
  const until = (part: string): Promise<void> =>
    new Promise((resolve) => {
      const alive = setInterval(() => undefined, 60_000);
      const done = (): void => {
        clearInterval(alive);
        waiting.delete(part);
        resolve();
      };
      if (seen.some((hex) => hex.includes(part))) done();
      else waiting.set(part, done);
    });
  return { seen, until };
}

for (const [name, way] of Object.entries(ways)) {
  void t.test(name, async (t) => {
    const node = await criContainerd(t, way.plugins === undefined ? {} : { vmPlugins: way.plugins });
    const far = await station(t, node.network, 'far0', '203.0.113.2/24', 'fd00:203::2/64');
    await node.network.run('ip', 'address', 'add', '203.0.113.1/24', 'dev', 'far0');
    await node.network.run('ip', 'address', 'add', 'fd00:203::1/64', 'dev', 'far0', 'nodad');
    for (const setting of ['net/ipv4/ip_forward', 'net/ipv6/conf/all/forwarding']) {
      await node.network.run('sh', '-c', `echo 1 >/proc/sys/${setting}`);
    }
    // A node that knows no way to the world, and so has no kernel that answers ARP for it.
    await node.network.run('ip', 'route', 'delete', 'default');

    const pod = await CriPod.run(t, node, { name: 'web-0' });
    const addresses = await pod.addresses();
    const [ip4 = '', ip6 = ''] = addresses;
    const vm = await pod.start({ stdin: true });
    await vm.log.until(/vmguest: ready/);
    using console = await vm.attach();
    const near = way.onLink
      ? await station(t, node.network, 'near0', '10.88.0.250/24', 'fd00:88:0:1::250/64')
      : far;
    if (way.onLink) await node.network.run('ip', 'link', 'set', 'near0', 'master', 'pods0');

    await console.ask(
      'dhcp',
      new RegExp(`dhcp eth0 ${ip4}/${way.prefixes[0]} router=${way.gateway} dns=10\\.96\\.0\\.10 `),
    );
    const dad = 'echo 0 >/proc/sys/net/ipv6/conf/eth0/dad_transmits';
    const take = `${dad} && ip -6 addr add ${ip6}/${way.prefixes[1]} dev eth0 && ${way.routes} && echo "routes $((6))"`;
    await console.ask(take, /routes 6/);

    await t.test('the default route of both families leads beyond the gateway', async (t) => {
      // The guest's kernel asks for a router when it has found its link-local address to be free.
      const known = 'until ip -6 route | grep ^default; do sleep 0.2; done';
      const route = await console.ask(known, /default via (\S+ )dev eth0/);
      t.match(route[1], way.router);
      for (const host of ['203.0.113.2', 'fd00:203::2']) {
        t.ok(await console.ask(`ping -c 3 -W 20 ${host}`, ANSWERED), host);
      }
    });

    await t.test('nothing leaves in anybody else’s name', async (t) => {
      const mac = (await console.ask('cat /sys/class/net/eth0/address', /([0-9a-f]{2}:){5}[0-9a-f]{2}/))[0];
      const local = (await console.ask('ip -6 addr show dev eth0 scope link', /fe80::[0-9a-f:]+(?=\/)/))[0];
      const names = { mac, ip4, ip6, local, gateway4: way.gateway, router: MADE_UP_ROUTER, other: NEIGHBOUR };
      const { spoofed, honest } = guestFrames(names);
      const before = await droppedFrames(node, vm.id);
      const sent = spoofed.map(([, , frame]) => frame);
      const routed = way.onLink ? undefined : routedFrames(mac, ip4);
      await sendFrames(console, [...sent, ...(routed?.spoofed ?? honest.map(([, frame]) => frame))]);
      // What was sent before it has been there, or is not coming.
      const last = routed?.honest ?? ethernet(BROADCAST, mac, IPV4, datagram(ip4, '255.255.255.255', HONEST));
      await sendFrames(console, [last]);
      await near.until(HONEST.toString('hex'));

      const seen = new Set([...near.seen, ...far.seen]);
      for (const [, what, frame] of spoofed)
        t.notOk(seen.has(frame.toString('hex')), `${what} reaches nobody`);
      t.notOk([...seen].some((frame) => frame.includes(SPOOFED.toString('hex'))));
      if (way.onLink)
        for (const [what, frame] of honest) t.ok(seen.has(frame.toString('hex')), `but ${what} does`);

      const expected: Record<string, number> = { ...before };
      const count = (reason: string, more: number): void => {
        expected[reason] = (expected[reason] ?? 0) + more;
      };
      for (const [reason] of spoofed) count(reason, 1);
      if (routed !== undefined) count('address', routed.spoofed.length);
      t.same(await droppedFrames(node, vm.id), expected, 'each was counted');
    });

    await t.test('vmctl says what is going on, and that the guard was taken away', async (t) => {
      const status = await vmctlStatus(node, vm.id);
      t.match(
        status,
        new RegExp(`^eth0 +([0-9a-f:]+) ${ip4}/${way.prefixes[0]} .*DNS 10\\.96\\.0\\.10$`, 'm'),
      );
      t.match(status, /^eth0 guard +on, dropped: \d+ mac, \d+ protocol, /m);
      t.match(status, /^eth0 DHCP +\d+ offer, \d+ ack, .*\d+ router-advertisement/m);
      if (way.plugins === undefined) return;
      await node.network.run('nft', 'flush', 'ruleset');
      t.match(await vmctlStatus(node, vm.id), /^eth0 guard +MISSING: .*nft flush ruleset/m);
      const next = await CriPod.run(t, node, { name: 'web-1' });
      await next.start();
      t.match(await vmctlStatus(node, vm.id), /^eth0 guard +on, dropped: /m, 'the next VM brings it back');
    });
  });
}

/** Somebody else on the guest's network; link-local, whom all guests know as their router. */
const NEIGHBOUR = {
  mac: '02:00:00:00:00:0b',
  ip4: '10.88.0.249',
  ip6: 'fd00:88:0:1::249',
  local: MADE_UP_ROUTER,
};
const HONEST = Buffer.from('this is honest');
const SPOOFED = Buffer.from('this is a lie!');

function datagram(source: string, destination: string, text: Buffer): Buffer {
  return ipv4(source, destination, 17, udp(9, 9, text));
}

/** Frames for the node to send on to the far host, of which it would send all if they came from another link. */
function routedFrames(
  mac: string,
  ip4: string,
): { readonly spoofed: readonly Buffer[]; readonly honest: Buffer } {
  const packet6 = ipv6(NEIGHBOUR.ip6, 'fd00:203::2', 17, udp(9, 9, SPOOFED));
  const fragment6 = ipv6(NEIGHBOUR.ip6, 'fd00:203::2', 44, fragment(17, 0, true, udp(9, 9, SPOOFED)));
  const to = (type: number, packet: Buffer): Buffer => ethernet(tapMac(mac), mac, type, packet);
  return {
    spoofed: [
      to(IPV4, datagram(NEIGHBOUR.ip4, '203.0.113.2', SPOOFED)),
      to(IPV6, packet6),
      to(IPV6, fragment6),
    ],
    honest: to(IPV4, datagram(ip4, '203.0.113.2', HONEST)),
  };
}

/** Few enough in a line for the guest's terminal. */
async function sendFrames(console: Attached, frames: readonly Buffer[]): Promise<void> {
  for (let at = 0; at < frames.length; at += 8) {
    const some = frames.slice(at, at + 8);
    const line = some.map((frame) => frame.toString('hex')).join(' ');
    await console.ask(`send-frame eth0 ${line}`, new RegExp(`sent ${some.length}\\b`));
  }
}

async function vmctlStatus(node: CriNode, id: string, ...args: readonly string[]): Promise<string> {
  return (await node.containerd.vmctl('status', id, ...args)).stdout;
}

/** By reason. */
async function droppedFrames(node: CriNode, id: string): Promise<Record<string, number>> {
  const status = JSON.parse(await vmctlStatus(node, id, '--json')) as {
    nics: { dropped: { name: string; value: number }[] }[];
  };
  return Object.fromEntries(
    status.nics.flatMap(({ dropped }) => dropped.map(({ name, value }) => [name, value])),
  );
}
