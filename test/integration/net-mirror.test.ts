import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { attachTap } from '../../src/net/attach-tap.ts';
import { applyGuard } from '../../src/net/guard.ts';
import { guardMirroredTap } from '../../src/net/guard-point.ts';
import type { GuestInterface } from '../../src/net/guest-network.ts';
import { readPodInterfaces } from '../../src/net/pod-interface.ts';
import { openTap } from '../../src/net/tap.ts';
import { applyMirror, type Mirror, removeMirror } from '../../src/net/tc-mirror.ts';
import { FakeGuest } from '../support/fake-guest.ts';
import { ARP, arp, BROADCAST, ethernet, icmp, IPV4, ipv4, IPV6 } from '../support/frames.ts';
import { networkLab } from '../support/network-lab.ts';
import { tempDir } from '../support/temp-dir.ts';

const lab = networkLab();
const { host } = lab;

const POD_MAC = '02:00:00:00:00:05';
const CLIENT_MAC = '02:00:00:00:00:0c';
const POD_IP = '10.6.0.5';
const CLIENT_IP = '10.6.0.9';
/** struct virtio_net_hdr of a TCP segment to be cut at 1448 bytes, its checksum yet to be made. */
const SEGMENTATION = Buffer.from([1, 1, 54, 0, 0xa8, 0x05, 34, 0, 16, 0]);
/** TUN_F_CSUM and TUN_F_TSO4. */
const ACCEPT_SEGMENTS = 3;

await lab.ip(
  undefined,
  ...['link add br0 type bridge mcast_snooping 0', 'link set br0 up', 'address add 10.6.0.1/24 dev br0'],
);
host.writeText('/proc/sys/net/ipv6/conf/br0/disable_ipv6', '0');
await lab.ip(undefined, 'address add 2001:db8:6::1/64 dev br0 nodad');

const clientTap = openTap(lab, { name: 'vtc', queues: 1, netns: undefined, uid: 0 });
const client = new FakeGuest(clientTap);
lab.native.tunSetInt(clientTap.queues[0]!.fd, 'offload', ACCEPT_SEGMENTS);
const clientGuest: GuestInterface = {
  ...{ ifName: 'eth0', mac: CLIENT_MAC, mtu: 1500, addresses: [], routes: [] },
  dns: { nameservers: [], search: [] },
};
await attachTap(host, 'vtc', { kind: 'bridge', bridge: 'br0' }, clientGuest);

const askArp = ethernet(
  BROADCAST,
  CLIENT_MAC,
  ARP,
  arp({ operation: 1, senderMac: CLIENT_MAC, senderIp: CLIENT_IP, targetIp: POD_IP }),
);
const askEcho = ethernet(POD_MAC, CLIENT_MAC, IPV4, ipv4(CLIENT_IP, POD_IP, 1, icmp(8, Buffer.from('echo'))));
const marker = ethernet(CLIENT_MAC, POD_MAC, IPV4, ipv4(POD_IP, CLIENT_IP, 253, Buffer.from('marker')));

/** The kernels' own multicast listener reports and router solicitations may come at any time. */
function noIpv6(all: readonly Buffer[]): Buffer[] {
  return all.filter((frame) => frame.readUInt16BE(12) !== IPV6);
}

/** In no order: they come by several queues. */
async function frames(who: FakeGuest, count: number): Promise<Buffer[]> {
  const found: Buffer[] = [];
  while (found.length < count) {
    found.push(...noIpv6(who.received()));
    await turn();
  }
  return found.sort((a, b) => Buffer.compare(a, b));
}

void t.test('a guest in the place of a pod’s veth', async (t) => {
  const netns = lab.netns(t);
  await lab.ip(
    undefined,
    `link add vha type veth peer name eth0 address ${POD_MAC} netns ${netns}`,
    'link set vha master br0 up',
  );
  await lab.run(netns, 'sh', '-c', 'echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6');
  await lab.ip(
    netns,
    ...[
      'link set eth0 up',
      `address add ${POD_IP}/24 dev eth0`,
      'address add 2001:db8:6::5/64 dev eth0 nodad',
    ],
    'route add default via 10.6.0.1',
  );
  const [found] = await readPodInterfaces(host, netns);
  t.same(found, {
    ifName: 'eth0',
    mac: POD_MAC,
    mtu: 1500,
    addresses: [
      { address: POD_IP, prefixLength: 24, gateway: '10.6.0.1' },
      { address: '2001:db8:6::5', prefixLength: 64, gateway: undefined },
    ],
    routes: [{ destination: '0.0.0.0/0', gateway: '10.6.0.1' }],
    dns: { nameservers: [], search: [] },
  });

  const ownStackAnswers = async (): Promise<void> => {
    client.received();
    client.send(askArp);
    t.equal((await frames(client, 1))[0]?.readUInt16BE(20), 2, 'the namespace’s own stack answers ARP');
  };
  await ownStackAnswers();

  for (const sender of ['tc', 'guard'] as const) {
    await t.test(`what the guest sends goes out by ${sender}`, async (t) => {
      const tap = openTap(lab, { name: 'vta', queues: 2, netns, uid: 0 });
      const guest = new FakeGuest(tap);
      const mirror: Mirror = { netns, tap: 'vta', link: 'eth0', mtu: 1500, sender };
      await applyMirror(host, mirror);
      await applyMirror(host, mirror);
      if (sender === 'guard') await applyGuard(host, guardMirroredTap(netns, 'vta', 'eth0'), found!);
      const filters = await lab.run(netns, 'tc', 'filter', 'show', 'dev', 'eth0', 'ingress');
      t.equal(filters.split('mirred').length - 1, 1, 'once, however often it is applied');

      client.received();
      client.send(askArp);
      client.send(askEcho);
      t.same(await frames(guest, 2), [askEcho, askArp], 'the guest gets what is for the pod');
      guest.send(marker);
      t.same(noIpv6(await client.receivedBefore(marker)), [], 'and nobody answers for it');

      for (const [address, ...options] of [[POD_IP], ['2001:db8:6::5', '-6']] as const) {
        const ping = lab.run(undefined, 'busybox', 'ping', ...options, '-c', '1', '-W', '20', address);
        await guest.answerUntil(ping, POD_MAC, [POD_IP, '2001:db8:6::5']);
        t.match(await ping, / 1 packets received/, `ping ${address}`);
      }

      client.received();
      const segment = Buffer.concat([
        ...[
          Buffer.from([0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]),
          Buffer.alloc(20_000),
        ],
      ]);
      guest.send(ethernet(CLIENT_MAC, POD_MAC, IPV4, ipv4(POD_IP, CLIENT_IP, 6, segment)), SEGMENTATION);
      const arrived: Buffer[] = [];
      while (arrived.length < 1) {
        arrived.push(...client.receivedWithHeaders().filter((bytes) => bytes[10 + 23] === 6));
        await turn();
      }
      t.equal(arrived[0]!.length, 10 + 14 + 20 + segment.length, 'a large segment passes whole');
      t.equal(arrived[0]![1], 1, 'to be cut where that is needed');

      // As containerd's two calls of `delete` do for a pod whose shim was killed.
      await Promise.all([removeMirror(host, mirror), removeMirror(host, mirror)]);
      await removeMirror(host, mirror);
      tap[Symbol.dispose]();
      await ownStackAnswers();
    });
  }

  await t.test('a TAP that ended with its VM is replaced', async (t) => {
    const mirror: Mirror = { netns, tap: 'vta', link: 'eth0', mtu: 1500, sender: 'tc' };
    const open = () => openTap(lab, { name: 'vta', queues: 1, netns, uid: 0 });
    {
      using _dead = open();
      await applyMirror(host, mirror);
    }
    using tap = open();
    await applyMirror(host, mirror);
    const guest = new FakeGuest(tap);
    client.send(askArp);
    t.same(await frames(guest, 1), [askArp]);
    await removeMirror(host, mirror);
  });

  await t.test('what cannot be joined leaves the link alone', async (t) => {
    const mirror: Mirror = { netns, tap: 'vta', link: 'eth0', mtu: 1500, sender: 'tc' };
    await t.rejects(applyMirror(host, mirror), { kind: 'Internal', message: /vta/ });
    t.equal(await lab.run(netns, 'tc', 'filter', 'show', 'dev', 'eth0', 'ingress'), '');
    await removeMirror(host, { netns, link: 'eth9' });
    await removeMirror(host, { netns: '/run/netns/vst-none', link: 'eth0' });
    await ownStackAnswers();
  });
});

void t.test('interfaces of real CNI plugins', async (t) => {
  const cases = {
    bridge: { bridge: 'cni0', isGateway: true },
    ptp: { mtu: 1400 },
  };
  for (const [type, options] of Object.entries(cases)) {
    await t.test(type, async (t) => {
      const netns = lab.netns(t);
      const directory = tempDir(t);
      const ranges = [[{ subnet: '10.5.0.0/24', rangeStart: '10.5.0.7' }]];
      const ipam = { type: 'host-local', dataDir: directory, ranges, routes: [{ dst: '0.0.0.0/0' }] };
      const config = { cniVersion: '1.0.0', name: 'lab', type, ...options, ipam };
      const env = ['CNI_CONTAINERID=lab', `CNI_NETNS=${netns}`, 'CNI_IFNAME=eth0', 'CNI_PATH=/usr/lib/cni'];
      const cni = (command: string) =>
        host.exec('env', [...env, `CNI_COMMAND=${command}`, `/usr/lib/cni/${type}`], {
          input: JSON.stringify(config),
        });
      const result = JSON.parse((await cni('ADD')).stdout) as {
        interfaces: { mac: string; sandbox?: string }[];
      };
      const mac = result.interfaces.find(({ sandbox }) => sandbox !== undefined)?.mac;
      t.same(await readPodInterfaces(host, netns), [
        {
          ifName: 'eth0',
          mac,
          mtu: type === 'ptp' ? 1400 : 1500,
          // ptp has no neighbours on the link.
          addresses: [{ address: '10.5.0.7', prefixLength: type === 'ptp' ? 32 : 24, gateway: '10.5.0.1' }],
          routes:
            type === 'ptp'
              ? [
                  { destination: '10.5.0.1/32', gateway: undefined },
                  { destination: '0.0.0.0/0', gateway: '10.5.0.1' },
                  { destination: '10.5.0.0/24', gateway: '10.5.0.1' },
                ]
              : [{ destination: '0.0.0.0/0', gateway: '10.5.0.1' }],
          dns: { nameservers: [], search: [] },
        },
      ]);
      await cni('DEL');
      t.same(await readPodInterfaces(host, netns), []);
    });
  }
});
