import { dirname, join } from 'node:path';
import type { Test } from 'tap';
import type { CriNode } from './cri-containerd.ts';
import {
  BRIDGED_GUEST,
  type GuestAddressing,
  ROUTED_GUEST,
  ROUTED_NETWORK,
  takeAddresses,
} from './cri-guest.ts';
import { type BridgeNetwork, hostLocal } from './cri-node-network.ts';
import { type Attached, type CriContainer, CriPod, type PodOptions } from './cri-pod.ts';

/** A way for the card of a pod's VM to join the network. */
export interface Way extends GuestAddressing {
  /** Plugins of the CNI network of runtime `vm`, where they are not those of all pods. */
  readonly plugins?: (network: BridgeNetwork, stateDir: string) => readonly object[];
  readonly addresses: readonly [RegExp, RegExp];
}

const BRIDGED = {
  addresses: [/^10\.88\.0\.\d+$/, /^fd00:88:0:1::/],
  ...BRIDGED_GUEST,
} as const;

export const WAYS = {
  'a link that another plugin made, mirrored in the pod’s namespace': BRIDGED,
  'a TAP on the node’s bridge': {
    ...BRIDGED,
    plugins: (network, stateDir) => [
      {
        type: 'vm-tap',
        bridge: network.bridge,
        isGateway: true,
        ...directories(stateDir),
        capabilities: { bandwidth: true },
        ipam: hostLocal(network),
      },
      PORTMAP,
    ],
  },
  'a TAP with a route': {
    addresses: [/^10\.89\.0\.\d+$/, /^fd00:89:0:1::/],
    ...ROUTED_GUEST,
    plugins: (network, stateDir) => {
      const ipam = hostLocal({ ...network, ...ROUTED_NETWORK });
      const routed = { type: 'vm-tap', mode: 'routed', ...directories(stateDir), ipam };
      return [{ ...routed, capabilities: { bandwidth: true } }, PORTMAP];
    },
  },
} as const satisfies Readonly<Record<string, Way>>;

/** Of the shim's configuration, which `privateContainerd` writes. */
function directories(stateDir: string): { readonly stateDir: string; readonly dataDir: string } {
  return { stateDir, dataDir: join(dirname(stateDir), 'data') };
}

const PORTMAP = { type: 'portmap', capabilities: { portMappings: true } };

/** A VM that has taken the addresses of its pod. */
export interface CriGuest {
  readonly pod: CriPod;
  readonly vm: CriContainer;
  readonly console: Attached;
  /** IPv4, then IPv6. */
  readonly addresses: readonly string[];
  readonly mac: string;
}

export async function startGuest(t: Test, node: CriNode, way: Way, options: PodOptions): Promise<CriGuest> {
  const pod = await CriPod.run(t, node, options);
  const addresses = await pod.addresses();
  t.match(addresses, way.addresses);
  const vm = await pod.start({ stdin: true });
  await vm.log.until(/vmguest: ready/);
  const console = await vm.attach();
  return { pod, vm, console, addresses, mac: await takeAddresses(console, addresses, way) };
}

/** One answer proves the way; the first frames to a new neighbour may be lost while it is being discovered. */
export const ANSWERED = /[1-9]\d* packets received/;

export async function pingFromNode(t: Test, node: CriNode, { addresses }: CriGuest): Promise<void> {
  for (const ip of addresses) {
    const said = await node.network.run('busybox', 'ping', '-c', '3', '-W', '20', ip);
    t.match(said, ANSWERED, `from the node to ${ip}`);
  }
}

/** Stops the VM and starts its container once more; gives the new console. */
export async function bootAgain(
  t: Test,
  { pod, vm, console, addresses, mac }: CriGuest,
  way: Way,
): Promise<Attached> {
  console[Symbol.dispose]();
  await vm.stop(60);
  const again = await pod.start({ stdin: true, attempt: 1 });
  await again.log.until(/vmguest: ready/);
  const attached = await again.attach();
  t.same(await takeAddresses(attached, addresses, way), mac, 'the same MAC and IP after a restart');
  return attached;
}
