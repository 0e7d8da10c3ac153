import { openPodNic, openTapNic } from '../../../src/net/attach-nic.ts';
import type { GuestInterface, TapAttachment } from '../../../src/net/guest-network.ts';
import { inNetworkNamespace } from '../../../src/host/network-namespace.ts';
import { openFlags } from '../../../src/host/open-flags.ts';
import { openDhcpResponder } from '../../../src/net/dhcp/dhcp-responder.ts';
import { readPodInterfaces } from '../../../src/net/pod-interface.ts';
import { recordingLogger } from '../../support/recording-logger.ts';
import type { Tap } from '../../../src/net/tap.ts';
import type { NetworkLab } from '../../support/network-lab.ts';
import type { BenchScope } from '../bench-scope.ts';
import { type BenchCard, QEMU_UID } from './net-guest.ts';

/** How a guest is joined with the node's bridge, or routed to. */
export interface Layout {
  /** Of rows and keys. */
  readonly name: string;
  readonly title: string;
  readonly vcpus: number;
  /** Left out of `--quick`. */
  readonly long?: boolean;
  /** Makes everything on the node's side; `n` is this guest's number, 2 to 250. */
  readonly join: (bench: Bench, n: number) => Promise<BenchCard>;
}

export interface Bench {
  readonly scope: BenchScope;
  readonly lab: NetworkLab;
}

export const BRIDGE = 'br0';
/** The node, on its bridge. */
export const NODE = '10.77.0.1';
const ROUTER = '169.254.1.1';

/** linux/if_tun.h. */
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;

export const LAYOUTS: readonly Layout[] = [
  { name: 'raw', title: 'raw: hand-made QEMU, TAP on a bridge', vcpus: 1, join: raw(1) },
  { name: 'tap_bridge', title: 'tap on a bridge', vcpus: 1, join: tap({ kind: 'bridge', bridge: BRIDGE }) },
  { name: 'tap_routed', title: 'tap, routed', vcpus: 1, join: tap({ kind: 'routed' }) },
  { name: 'netns', title: 'netns: veth, guard and tc', vcpus: 1, join: mirrored({ guard: true }) },
  {
    name: 'tap_bridge_unguarded',
    title: 'tap on a bridge, no guard',
    vcpus: 1,
    join: tap({ kind: 'bridge', bridge: BRIDGE }, { guard: false }),
  },
  {
    name: 'netns_unguarded',
    title: 'netns: veth and tc, no guard',
    vcpus: 1,
    long: true,
    join: mirrored({ guard: false }),
  },
  {
    name: 'bridge_without_header',
    title: 'TAP on a bridge, no vnet header',
    vcpus: 1,
    join: headerless,
  },
  {
    name: 'virtlet',
    title: 'Virtlet: veth, bridge in the pod, no vnet header',
    vcpus: 1,
    join: virtlet({ header: false }),
  },
  {
    name: 'virtlet_with_header',
    title: 'Virtlet with the vnet header',
    vcpus: 1,
    join: virtlet({ header: true }),
  },
  { name: 'raw_2_queues', title: 'raw, 2 vCPUs, 2 queues', vcpus: 2, long: true, join: raw(2) },
  {
    name: 'tap_bridge_2_vcpus_1_queue',
    title: 'tap on a bridge, 2 vCPUs, 1 queue',
    vcpus: 2,
    join: tap({ kind: 'bridge', bridge: BRIDGE }),
  },
  {
    name: 'tap_bridge_2_queues',
    title: 'tap on a bridge, 2 vCPUs, 2 queues',
    vcpus: 2,
    join: tap({ kind: 'bridge', bridge: BRIDGE }, { queues: 2 }),
  },
];

/** The node's network: a bridge with its address, and a default route as nodes have. */
export async function makeNode({ lab }: Bench): Promise<void> {
  await lab.ip(
    undefined,
    'link set lo up',
    `link add ${BRIDGE} type bridge`,
    `address add ${NODE}/24 dev ${BRIDGE}`,
    `link set ${BRIDGE} up`,
    `route add default via 10.77.0.254`,
  );
}

/** As somebody would who runs QEMU by hand and knows how. */
function raw(queues: number): Layout['join'] {
  return async ({ lab }, n) => {
    const ifName = `raw${n}`;
    const multi = queues > 1 ? ' multi_queue' : '';
    await lab.ip(
      undefined,
      `tuntap add dev ${ifName} mode tap vnet_hdr${multi}`,
      `link set dev ${ifName} master ${BRIDGE} up`,
    );
    return { mac: macOf(n), queues, tap: { ifName }, address: `${addressOf(n)}/24`, routes: [] };
  };
}

/** Our mode `tap`. */
function tap(attachment: TapAttachment, { guard = true, queues = 1 } = {}): Layout['join'] {
  return async ({ scope, lab }, n) => {
    const routed = attachment.kind === 'routed';
    const address = routed ? `10.78.0.${n}` : addressOf(n);
    const prefixLength = routed ? 32 : 24;
    const gateway = routed ? ROUTER : NODE;
    const guest = guestOf(n, [{ address, prefixLength, gateway }]);
    const open = scope.use(
      await openTapNic(
        lab,
        { tap: `vt${n}`, attachment, guest, bandwidth: undefined },
        { queues, uid: QEMU_UID, guard },
      ),
    );
    answerDhcp({ scope, lab }, open, guest);
    return {
      ...{ mac: guest.mac, queues, tap: { fds: open.queues.map(({ fd }) => fd) } },
      address: `${address}/${prefixLength}`,
      routes: routed ? [`${ROUTER} dev eth0`, `default via ${ROUTER}`] : [],
    };
  };
}

/** Our mode `netns`, beside a veth as the stock `bridge` plugin makes it. */
function mirrored({ guard }: { readonly guard: boolean }): Layout['join'] {
  return async ({ scope, lab }, n) => {
    const netns = await podWithVeth({ scope, lab }, n);
    await lab.ip(netns, `address add ${addressOf(n)}/24 dev eth0`, `route add default via ${NODE}`);
    const [guest] = await readPodInterfaces(lab.host, netns);
    if (guest === undefined) throw new Error('the pod has no link');
    const open = scope.use(
      await openPodNic(lab, { netns, tap: `vt${n}`, guest }, { queues: 1, uid: QEMU_UID, guard }),
    );
    answerDhcp({ scope, lab }, open, guest);
    const fds = open.queues.map(({ fd }) => fd);
    return { mac: guest.mac, queues: 1, tap: { fds }, address: `${addressOf(n)}/24`, routes: [] };
  };
}

/** Virtlet's: the pod's veth and the TAP are ports of a bridge in the pod's namespace; the guest takes the veth's place. */
function virtlet({ header }: { readonly header: boolean }): Layout['join'] {
  return async ({ scope, lab }, n) => {
    const netns = await podWithVeth({ scope, lab }, n);
    const fd = inNetworkNamespace(lab.native, netns, () => openPlainTap({ scope, lab }, 'tap0', header));
    await lab.ip(
      netns,
      'link add br1 type bridge',
      `link set eth0 address 02:00:00:00:02:${hex(n)} master br1`,
      'link set tap0 master br1 up',
      'link set br1 up',
    );
    return { mac: macOf(n), queues: 1, tap: { fds: [fd] }, address: `${addressOf(n)}/24`, routes: [] };
  };
}

/** What the vnet header's absence alone costs. */
async function headerless({ scope, lab }: Bench, n: number): Promise<BenchCard> {
  const fd = openPlainTap({ scope, lab }, `plain${n}`, false);
  await lab.ip(undefined, `link set plain${n} master ${BRIDGE} up`);
  return { mac: macOf(n), queues: 1, tap: { fds: [fd] }, address: `${addressOf(n)}/24`, routes: [] };
}

async function podWithVeth({ scope, lab }: Bench, n: number): Promise<string> {
  const netns = lab.netns(scope);
  await lab.ip(
    undefined,
    `link add veth${n} type veth peer name eth0 address ${macOf(n)} netns ${netns}`,
    `link set veth${n} master ${BRIDGE} up`,
  );
  await lab.ip(netns, 'link set lo up', 'link set eth0 up');
  return netns;
}

/** The shim's packet socket on the TAP, which every frame of the guest passes. */
function answerDhcp({ scope, lab }: Bench, { name, netns }: Tap, guest: GuestInterface): void {
  const where = netns === undefined ? {} : { netns };
  const logger = recordingLogger();
  scope.use(openDhcpResponder(lab.native, { ifName: name, ...where, guest, logger }));
}

/** In the namespace of the calling thread. */
function openPlainTap({ scope, lab }: Bench, name: string, header: boolean): number {
  const { fd } = scope.use(lab.host.open('/dev/net/tun', openFlags.O_RDWR | openFlags.O_NONBLOCK));
  lab.native.tunSetIff(fd, name, IFF_TAP | IFF_NO_PI | (header ? IFF_VNET_HDR : 0));
  return fd;
}

function guestOf(n: number, addresses: GuestInterface['addresses']): GuestInterface {
  const dns = { nameservers: [], search: [] };
  return { ifName: 'eth0', mac: macOf(n), mtu: 1500, addresses, routes: [], dns };
}

export function addressOf(n: number): string {
  return `10.77.0.${n}`;
}

function macOf(n: number): string {
  return `02:00:00:00:01:${hex(n)}`;
}

function hex(n: number): string {
  return n.toString(16).padStart(2, '0');
}
