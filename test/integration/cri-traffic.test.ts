/**
 * Traffic of pods that are VMs, in each way a card joins the pod's network: bytes arrive in both directions and both
 * families, and what makes them arrive fast is on: offloads in the guest and on its TAP, queues, the MTU.
 */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { NicPlan } from '../../src/vm/nic-plan.ts';
import { type CriNode, criContainerd } from '../support/cri-containerd.ts';
import {
  BRIDGED_GUEST,
  type GuestAddressing,
  ROUTED_GUEST,
  ROUTED_NETWORK,
  takeAddresses,
} from '../support/cri-guest.ts';
import { iperfImage, writeImage } from '../support/cri-images.ts';
import { bridgePlugins, hostLocal } from '../support/cri-node-network.ts';
import { type Attached, CriPod } from '../support/cri-pod.ts';
import { ANSWERED } from '../support/cri-ways.ts';
import { tempDir } from '../support/temp-dir.ts';
import { netVmImage } from '../support/vm-image.ts';
import { vmRecord } from '../support/vm-record.ts';

const IPERF = 'example.test/iperf3:1';
/** What each iperf3 sends. */
const BYTES = 4 << 20;

interface Way extends GuestAddressing {
  readonly handler: string;
  readonly cpus: number;
  readonly mtu: number;
}

/** A router advertisement cannot name the gateway that host-local gives, which is no link-local address. */
const bridged: GuestAddressing = {
  ...BRIDGED_GUEST,
  routes: 'ip -6 route replace default via fd00:88:0:1::1 dev eth0',
};

/** Two queues, one queue and two; a large, the smallest that IPv6 allows, and the usual MTU. */
const ways: readonly Way[] = [
  { handler: 'bridged', cpus: 2, mtu: 9000, ...bridged },
  { handler: 'routed', cpus: 1, mtu: 1280, ...ROUTED_GUEST },
  { handler: 'mirrored', cpus: 2, mtu: 1500, ...bridged },
];

void t.test('pods reach each other, the node and containers', async (t) => {
  const node = await makeNode(t);
  const neighbour = await CriPod.run(t, node, { name: 'neighbour', handler: '' });
  const container = await neighbour.start({ image: IPERF, command: ['/bin/busybox', 'sleep', '1000'] });
  const inContainer = async (...command: readonly string[]): Promise<string> => {
    const exec = ['tasks', 'exec', '--exec-id', `exec-${execs++}`, container.id];
    return (await node.containerd.ctr('--namespace', 'k8s.io', ...exec, ...command)).stdout;
  };
  let execs = 0;
  const guests = await Promise.all(ways.map((way) => startGuest(t, node, way)));

  for (const [index, { way, console, addresses, nic }] of guests.entries()) {
    await t.test(way.handler, async (t) => {
      const others: Readonly<Record<string, (...command: readonly string[]) => Promise<string>>> = {
        'the node': (...command) => node.network.run(...command),
        'a container': inContainer,
      };
      for (const [who, run] of Object.entries(others)) {
        for (const [family, ip] of addresses.entries()) {
          await serve(console);
          // IPv4 to the guest, IPv6 from it: each crosses both ways of every layout.
          const said = JSON.parse(await run('/usr/bin/iperf3', ...client(ip, family), '--json')) as Said;
          t.match(
            said,
            { error: undefined, end: { sum_sent: {}, sum_received: {} } },
            `${who}, ${ip}: no error`,
          );
          t.ok(said.end.sum_sent.bytes >= BYTES && said.end.sum_received.bytes > 0, `${who}, ${ip}`);
        }
      }
      const other = guests[(index + 1) % guests.length]!;
      for (const [family, ip] of other.addresses.entries()) {
        await serve(other.console);
        const done = /([\d.]+) MBytes .* sender[^]*?iperf Done|iperf3: error.*/;
        const [said, sent] = await console.ask(`iperf3 ${client(ip, family).join(' ')}`, done);
        t.ok(Number(sent) >= BYTES / 2 ** 20, `${other.way.handler}, ${ip}: ${said}`);
        t.ok(await console.ask(`ping -c 3 -W 20 ${ip}`, ANSWERED), `ping ${ip}`);
      }
      for (const ip of [...(await neighbour.addresses()), '10.88.0.1', 'fd00:88:0:1::1']) {
        t.ok(await console.ask(`ping -c 3 -W 20 ${ip}`, ANSWERED), `ping ${ip}`);
      }

      const offloads = /^tx-checksumming: on[^]*^scatter-gather: on[^]*^tcp-segmentation-offload: on/m;
      const [inGuest] = await console.ask('ethtool -k eth0', /Features for eth0:[^]*hw-tc-offload.*/);
      const said = inGuest.replaceAll('\r', '');
      t.match(said, offloads, 'offloads of the guest’s card');
      t.match(said, /tx-tcp-segmentation: on[^]*tx-tcp6-segmentation: on/, 'segmentation of IPv4 and IPv6');
      const queues = way.cpus;
      const [, most, current] = await console.ask(
        'ethtool -l eth0',
        /Combined:\s+(\d+)[^]*Combined:\s+(\d+)\s/,
      );
      t.same([Number(most), Number(current)], [queues, queues], 'one queue per vCPU is in use');
      const [, mtu] = await console.ask('echo "mtu=$(cat /sys/class/net/eth0/mtu)"', /mtu=(\d+)\r?\n/);
      t.equal(Number(mtu), way.mtu, 'the guest has the MTU of its network');

      const [link] = JSON.parse(
        await onTap(node, nic, 'ip', '-details', '-json', 'link', 'show', nic.tap),
      ) as Link[];
      t.match(
        link,
        {
          mtu: way.mtu,
          linkinfo: { info_data: { vnet_hdr: true, multi_queue: queues > 1 } },
        },
        'MTU, vnet header and queues of the TAP',
      );
      t.match(await onTap(node, nic, 'ethtool', '-k', nic.tap), offloads, 'offloads of the TAP');
    });
  }
});

interface Said {
  readonly error?: string;
  readonly end: { readonly sum_sent: { bytes: number }; readonly sum_received: { bytes: number } };
}

interface Link {
  readonly mtu: number;
  readonly linkinfo: { readonly info_data: Readonly<Record<string, unknown>> };
}

interface Guest {
  readonly way: Way;
  readonly console: Attached;
  readonly addresses: readonly string[];
  readonly nic: NicPlan;
}

async function makeNode(t: Test): Promise<CriNode> {
  const iperf = { name: IPERF, archive: join(tempDir(t), 'iperf3.tar') };
  await writeImage(iperf.archive, iperfImage(IPERF));
  return await criContainerd(t, {
    images: [await netVmImage(), iperf],
    handlers: {
      bridged: (network, stateDir) => [
        {
          ...{ type: 'vm-tap', bridge: network.bridge, isGateway: true, mtu: 9000, stateDir },
          ipam: hostLocal(network),
        },
      ],
      routed: (network, stateDir) => [
        {
          ...{ type: 'vm-tap', mode: 'routed', mtu: 1280, stateDir },
          ipam: hostLocal({ ...network, ...ROUTED_NETWORK }),
        },
      ],
      mirrored: bridgePlugins,
    },
  });
}

async function startGuest(t: Test, node: CriNode, way: Way): Promise<Guest> {
  const { name: image, kernelBoot } = await netVmImage();
  const pod = await CriPod.run(t, node, { name: way.handler, handler: way.handler });
  const addresses = await pod.addresses();
  const vm = await pod.start({
    image,
    stdin: true,
    annotations: { ...kernelBoot, 'vmshim.io/memory': '128Mi', 'vmshim.io/cpus': String(way.cpus) },
  });
  await vm.log.until(/vmguest: ready/);
  const console = await vm.attach();
  t.teardown(() => console[Symbol.dispose]());
  await takeAddresses(console, addresses, way);
  const [nic] = vmRecord(node.containerd, vm.id, 'k8s.io').nics;
  return { way, console, addresses, nic: nic! };
}

/** An iperf3 that serves one client and then ends; it listens when this resolves. */
async function serve(console: Attached): Promise<void> {
  await console.ask('iperf3 --server --one-off', /Server listening on 5201/);
}

function client(ip: string, family: number): string[] {
  return [
    '--client',
    ip,
    '--bytes',
    String(BYTES),
    '--interval',
    '0',
    ...(family === 1 ? ['--reverse'] : []),
  ];
}

/** A command in the network namespace of the TAP. */
async function onTap(node: CriNode, nic: NicPlan, ...command: readonly string[]): Promise<string> {
  const enter = nic.kind === 'netns' ? ['nsenter', `--net=${nic.netns}`] : [];
  return await node.network.run(...enter, ...command);
}
