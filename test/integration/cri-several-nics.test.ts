/**
 * A pod in several networks is a VM with several cards, whichever plugin each is of: all in the order of their names, with
 * their addresses, and one default route.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type CriNode, criContainerd } from '../support/cri-containerd.ts';
import type { CniResult } from '../support/cni-chain.ts';
import { type BridgeNetwork, hostLocal } from '../support/cri-node-network.ts';
import { type Attached, CriPod } from '../support/cri-pod.ts';
import { killShim, recreate, type RunningPod } from '../support/cri-recreate.ts';
import { vmRecord } from '../support/vm-record.ts';

const ANSWERED = /[1-9]\d* packets received/;
/** As src/qemu/pci-address.ts promises them. */
const SLOTS = ['03', '08', '09', '0a', '0b'];

const MAC = '02:00:00:00:00:aa';

interface Card {
  readonly ifName: string;
  /** Network 10.NUMBER.0.0/24 and fd00:NUMBER:0:1::/64. */
  readonly number: number;
  readonly network: (number: Numbered) => object;
  /** Of the lease; empty where the network has no default route to give, or another card has it. */
  readonly router: string;
  /** Prefix of the lease; IPv4 and IPv6. */
  readonly prefixes: readonly [number, number];
  /** What answers there; for IPv6 only where the network is on the link. */
  readonly ping: readonly string[];
  /** Whether its addresses stay when the guest goes on in another sandbox of its pod. */
  readonly stays?: boolean;
  /** Routes that the test guest's simple DHCP client leaves to do; `DEV` is the card. */
  readonly routes?: string;
}

interface Numbered {
  readonly ipam: object;
  readonly stateDir: string;
}

const onBridge =
  (bridge: string) =>
  ({ ipam, stateDir }: Numbered) => ({
    type: 'vm-tap',
    bridge,
    isGateway: true,
    mtu: 1400,
    stateDir,
    ipam,
  });
const stock =
  (type: string, more: object) =>
  ({ ipam }: Numbered) => ({ type, ...more, ipam });

/** In no order, as nobody promises one. */
const OF_VM_TAP: readonly Card[] = [
  {
    ifName: 'net10',
    number: 93,
    network: stock('ptp', {}),
    router: '',
    prefixes: [32, 128],
    ping: ['10.93.0.1'],
    routes: 'ip route add 10.93.0.1 dev DEV',
  },
  {
    ifName: 'net2',
    number: 92,
    network: ({ ipam, stateDir }) => ({ type: 'vm-tap', mode: 'routed', stateDir, ipam }),
    router: '',
    prefixes: [32, 128],
    ping: ['192.0.2.2'],
    routes: 'ip route add 10.92.0.1 dev DEV && ip route add 192.0.2.2 via 10.92.0.1',
  },
  {
    ifName: 'net1',
    number: 91,
    network: onBridge('stor0'),
    router: '',
    prefixes: [24, 64],
    ping: ['10.91.0.1', 'fd00:91:0:1::1'],
  },
  {
    ifName: 'eth0',
    number: 90,
    network: onBridge('pods0'),
    router: '10.90.0.1',
    prefixes: [24, 64],
    ping: ['10.90.0.1', 'fd00:90:0:1::1'],
  },
];

const OF_OTHERS: readonly Card[] = [
  {
    ifName: 'eth0',
    number: 94,
    network: stock('bridge', { bridge: 'pods0', isGateway: true, isDefaultGateway: true }),
    router: '10.94.0.1',
    prefixes: [24, 64],
    ping: ['10.94.0.1', 'fd00:94:0:1::1'],
  },
  {
    ifName: 'net1',
    number: 95,
    stays: true,
    // Its IPAM has a default route as well.
    network: ({ ipam, stateDir }) =>
      onBridge('stor0')({ ipam: { ...ipam, routes: [{ dst: '0.0.0.0/0' }] }, stateDir }),
    router: '',
    prefixes: [24, 64],
    ping: ['10.95.0.1', 'fd00:95:0:1::1'],
  },
  {
    ifName: 'net2',
    number: 96,
    network: stock('macvlan', { master: 'uplink0' }),
    router: '',
    prefixes: [24, 64],
    ping: ['10.96.0.1'],
  },
];

for (const [what, cards] of Object.entries({
  'cards of vm-tap, and one of another plugin': OF_VM_TAP,
  'a first card of another plugin, and more of both kinds': OF_OTHERS,
})) {
  void t.test(what, async (t) => {
    let results = '';
    const node = await criContainerd(t, {
      shimConfig: '[network]\nallow_guard_off = true\n',
      vmPlugins: (network, stateDir) => {
        results = join(network.leases, 'results');
        const networks = cards.map((card) => ({
          ifName: card.ifName,
          network: {
            name: `net${card.number}`,
            ...card.network({ stateDir, ipam: ipamOf(network, card.number) }),
          },
        }));
        // The first is the pod's.
        networks.sort((a, b) => Number(b.ifName === 'eth0') - Number(a.ifName === 'eth0'));
        const capabilities = { 'io.kubernetes.cri.pod-annotations': true };
        return [{ type: 'cni-multi', capabilities, resultsDir: results, networks }];
      },
    });
    await node.network.run('ip', 'address', 'add', '10.96.0.1/24', 'dev', 'uplink1');

    // Of a first card of vm-tap the pod may say its address; of another plugin's nobody can.
    const annotations: Readonly<Record<string, string>> =
      cards === OF_VM_TAP ? { 'vmshim.io/mac': MAC } : { 'vmshim.io/spoof-guard': 'off' };
    const pod = await CriPod.run(t, node, { name: 'many-0', annotations });
    const vm = await pod.start({ stdin: true });
    await vm.log.until(/vmguest: ready/);
    const console = await vm.attach();
    const resultOf = ({ id }: CriPod, { ifName }: Card): CniResult =>
      JSON.parse(readFileSync(join(results, `${id}-${ifName}.json`), 'utf8')) as CniResult;
    const macs: string[] = [];
    const carriers: number[] = [];
    const inOrder = cards.toSorted((a, b) => a.ifName.localeCompare(b.ifName, 'en', { numeric: true }));
    for (const [index, card] of inOrder.entries()) {
      const result = resultOf(pod, card);
      const { mac = '' } =
        result.interfaces.find(({ name, sandbox }) => name === card.ifName && sandbox) ?? {};
      if (index === 0 && cards === OF_VM_TAP) t.equal(mac, MAC);
      macs.push(mac);
      await useCard(console, { index, card, result, mac });
      const counted = `/sys/class/net/eth${index}/carrier_changes`;
      const [, changes] = await console.ask(`echo "changes $(cat ${counted})."`, /changes (\d+)\./);
      carriers.push(Number(changes));
    }
    const [, count] = await console.ask('echo "defaults=$(ip route | grep -c ^default)"', /defaults=(\d+)\s/);
    t.equal(count, '1', 'one default route');

    console[Symbol.dispose]();
    let running: RunningPod = { pod, vm, attempt: 0 };
    if (cards === OF_OTHERS) {
      const { qemu } = vmRecord(node.containerd, vm.id, 'k8s.io');
      await killShim(node, running);
      running = await recreate(t, node, running);
      t.same(vmRecord(node.containerd, running.vm.id, 'k8s.io').qemu, qemu, 'the same QEMU');
      using attached = await running.vm.attach();
      for (const [index, card] of inOrder.entries()) {
        // Of other addresses it learns by its cable.
        const least = (carriers[index] ?? 0) + (card.stays === true ? 0 : 2);
        const seen = `[ "$(cat /sys/class/net/eth${index}/carrier_changes)" -ge ${least} ]`;
        const flush = `ip -6 addr flush dev eth${index} scope global`;
        await attached.ask(
          `until ${seen}; do :; done; ${flush}; echo "seen $((6 + ${index}))"`,
          new RegExp(`seen ${6 + index}\\s`),
        );
        await useCard(attached, { index, card, result: resultOf(running.pod, card), mac: macs[index] ?? '' });
      }
    }
    await running.pod.remove();
    for (const { number } of cards) t.same(leasesLeft(node.podNetwork, number), [], `net${number}`);
    await removeBridges(node, ['stor0']);
  });
}

/** Every check fails by waiting for what the guest then does not say. */
async function useCard(
  console: Attached,
  { index, card, result, mac }: { index: number; card: Card; result: CniResult; mac: string },
): Promise<void> {
  const device = `eth${index}`;
  const [ip4 = '', ip6 = ''] = result.ips.map(({ address }) => address.split('/')[0] ?? '');
  await console.ask('nics', new RegExp(`nic ${device} mac=${mac} mtu=\\d+ driver=virtio_net`));
  await console.ask(
    `readlink -f /sys/class/net/${device}/device`,
    new RegExp(`/0000:00:${SLOTS[index] ?? ''}\\.0/virtio`),
  );
  const [prefix4, prefix6] = card.prefixes;
  await console.ask(`dhcp ${device}`, new RegExp(`dhcp ${device} ${ip4}/${prefix4} router=${card.router} `));
  const dad = `echo 0 >/proc/sys/net/ipv6/conf/${device}/dad_transmits`;
  const routes = (card.routes ?? 'true').replaceAll('DEV', device);
  await console.ask(
    `${dad} && ip -6 addr add ${ip6}/${prefix6} dev ${device} && ${routes} && echo "routes $((6 + ${index}))"`,
    new RegExp(`routes ${6 + index}`),
  );
  for (const ip of card.ping) await console.ask(`ping -c 3 -W 20 -I ${device} ${ip}`, ANSWERED);
}

function ipamOf(network: BridgeNetwork, number: number): object {
  const prefixes = { prefix4: `10.${number}.0`, prefix6: `fd00:${number}:0:1` };
  return { ...hostLocal({ ...network, ...prefixes }), routes: [] };
}

function leasesLeft({ leases }: BridgeNetwork, number: number): string[] {
  return readdirSync(join(leases, `net${number}`)).filter((name) => /^[0-9a-f]+[.:]/.test(name));
}

async function removeBridges({ network }: CriNode, bridges: readonly string[]): Promise<void> {
  for (const bridge of bridges) await network.run('ip', 'link', 'delete', bridge);
}
