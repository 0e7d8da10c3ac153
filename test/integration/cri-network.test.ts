/**
 * The network of pods that are VMs, as the CNI plugins of a node make it: the guest has the pod's addresses and is reached
 * at them, whichever way its card joins the network.
 */
import t, { type Test } from 'tap';
import { BUSYBOX, type CriNode, criContainerd } from '../support/cri-containerd.ts';
import {
  BRIDGED_GUEST,
  type GuestAddressing,
  ROUTED_GUEST,
  ROUTED_NETWORK,
  takeAddresses,
} from '../support/cri-guest.ts';
import { type BridgeNetwork, hostLocal } from '../support/cri-node-network.ts';
import { type Attached, type CriContainer, CriPod } from '../support/cri-pod.ts';

/** One answer proves the way; the first frames to a new neighbour may be lost while it is being discovered. */
const ANSWERED = /[1-9]\d* packets received/;

interface Way extends GuestAddressing {
  readonly plugins?: (network: BridgeNetwork, stateDir: string) => readonly object[];
  readonly addresses: readonly [RegExp, RegExp];
}

const BRIDGED = {
  addresses: [/^10\.88\.0\.\d+$/, /^fd00:88:0:1::/],
  ...BRIDGED_GUEST,
} as const;

const ways: Readonly<Record<string, Way>> = {
  'a link that another plugin made, mirrored in the pod’s namespace': BRIDGED,
  'a TAP on the node’s bridge': {
    ...BRIDGED,
    plugins: (network, stateDir) => [
      { type: 'vm-tap', bridge: network.bridge, isGateway: true, stateDir, ipam: hostLocal(network) },
    ],
  },
  'a TAP with a route': {
    addresses: [/^10\.89\.0\.\d+$/, /^fd00:89:0:1::/],
    ...ROUTED_GUEST,
    plugins: (network, stateDir) => {
      const ipam = hostLocal({ ...network, ...ROUTED_NETWORK });
      return [{ type: 'vm-tap', mode: 'routed', stateDir, ipam }];
    },
  },
};

for (const [name, way] of Object.entries(ways)) {
  void t.test(name, async (t) => {
    const node = await criContainerd(t, way.plugins === undefined ? {} : { vmPlugins: way.plugins });
    // On the node's bridge, and there first: routes to the VMs come with each.
    const neighbour = await CriPod.run(t, node, { name: 'neighbour', handler: '' });
    const [first, second] = await Promise.all([
      startGuest(t, node, 'web-0', way),
      startGuest(t, node, 'web-1', way),
    ]);
    const others = {
      'the node': ['10.88.0.1', 'fd00:88:0:1::1'],
      'a container': await neighbour.addresses(),
    };
    const vms = { 'another VM': second.addresses };
    for (const [who, addresses] of Object.entries({ ...others, ...vms })) {
      for (const ip of addresses) {
        t.ok(await first.console.ask(`ping -c 3 -W 20 ${ip}`, ANSWERED), `to ${who} at ${ip}`);
      }
    }
    for (const ip of first.addresses) {
      const said = await node.network.run('busybox', 'ping', '-c', '3', '-W', '20', ip);
      t.match(said, ANSWERED, `from the node to ${ip}`);
    }
    const pings = first.addresses.map((ip) => `/bin/busybox ping -c 3 -W 20 ${ip} && echo "reached ${ip}"`);
    const command = ['/bin/busybox', 'sh', '-c', `${pings.join('; ')}; /bin/busybox sleep 1000`];
    const container = await neighbour.start({ image: BUSYBOX, command });
    for (const ip of first.addresses) {
      t.ok(await container.log.until(new RegExp(`reached ${ip}\\n`)), `from a container to ${ip}`);
    }

    first.console[Symbol.dispose]();
    await first.vm.stop(60);
    const again = await first.pod.start({ stdin: true, attempt: 1 });
    await again.log.until(/vmguest: ready/);
    using console = await again.attach();
    t.same(
      await takeAddresses(console, first.addresses, way),
      first.mac,
      'the same MAC and IP after a restart',
    );
    const [ip = ''] = second.addresses;
    t.ok(await console.ask(`ping -c 3 -W 20 ${ip}`, ANSWERED), 'which the others see at once');
  });
}

interface Guest {
  readonly pod: CriPod;
  readonly vm: CriContainer;
  readonly console: Attached;
  readonly addresses: readonly string[];
  readonly mac: string;
}

async function startGuest(t: Test, node: CriNode, name: string, way: Way): Promise<Guest> {
  const pod = await CriPod.run(t, node, { name });
  const addresses = await pod.addresses();
  t.match(addresses, way.addresses);
  const vm = await pod.start({ stdin: true });
  await vm.log.until(/vmguest: ready/);
  const console = await vm.attach();
  return { pod, vm, console, addresses, mac: await takeAddresses(console, addresses, way) };
}
