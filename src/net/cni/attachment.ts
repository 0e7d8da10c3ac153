import { VmError } from '../../core/errors.ts';
import type { Host } from '../../host/host.ts';
import type { PortOptions } from '../bridge-port.ts';
import type { GuestAddress, TapAttachment } from '../guest-network.ts';
import { runBatch } from '../ip-command.ts';
import { findLink, type NodeLink } from '../node-link.ts';
import { CNI_CODE, CniError } from './cni-error.ts';
import { ipFamily } from './ip-address.ts';

const DEFAULT_MTU = 1500;

/**
 * Makes sure that what TAPs are to be attached to is there and up.
 * @returns bytes; the MTU that guests get where the configuration does not say.
 * @throws CniError `attachment` with what is wrong and how to mend it.
 */
export async function expectAttachment(
  host: Host,
  attachment: TapAttachment,
  signal?: AbortSignal,
): Promise<number> {
  switch (attachment.kind) {
    case 'routed':
      return DEFAULT_MTU;
    case 'bridge': {
      const { bridge, port } = attachment;
      const { mtu } = expectBridge(bridge, port, await findLink(host, bridge, signal));
      return mtu;
    }
    case 'ovs':
      await expectOvsBridge(host, attachment.bridge, signal);
      // Its local port. A bridge of the kernel has one of that name always.
      return (await findLink(host, attachment.bridge, signal))?.mtu ?? DEFAULT_MTU;
  }
}

/**
 * Makes the bridge where it is missing, and puts the gateways of the addresses on it, with their prefix lengths.
 * @returns its MTU, in bytes.
 */
export async function ensureGateway(
  host: Host,
  { bridge, port }: Extract<TapAttachment, { bridge: string }>,
  {
    addresses,
    mtu,
    signal,
  }: { addresses: readonly GuestAddress[]; mtu: number | undefined; signal?: AbortSignal | undefined },
): Promise<number> {
  const found = await findLink(host, bridge, signal);
  if (found === undefined) await makeBridge(host, bridge, mtu, signal);
  // Nothing is put on a link that is something else.
  else if (found.kind !== 'bridge') throw noBridge(bridge);
  const gateways = addresses.flatMap(({ address, gateway, prefixLength }) =>
    gateway === undefined ? [] : [{ cidr: `${gateway}/${prefixLength}`, family: ipFamily(address) }],
  );
  const commands = [
    ...(found?.up === true ? [] : [['link', 'set', 'dev', bridge, 'up']]),
    ...gateways
      .filter(({ cidr }) => found?.addresses.includes(cidr) !== true)
      // Nobody else has it, and a guest may ask for it at once.
      .map(({ cidr, family }) => [
        ...['address', 'replace', cidr, 'dev', bridge],
        ...(family === 6 ? ['nodad'] : []),
      ]),
  ];
  if (found !== undefined && commands.length === 0) return expectBridge(bridge, port, found).mtu;
  await runBatch(host, 'ip', undefined, commands, signal);
  return expectBridge(bridge, port, await findLink(host, bridge, signal)).mtu;
}

function expectBridge(bridge: string, port: PortOptions | undefined, link: NodeLink | undefined): NodeLink {
  if (link === undefined) {
    throw unusable(
      `bridge "${bridge}" does not exist on this node; make it (ip link add ${bridge} type bridge; ip link set ${bridge} up), or set "isGateway": true in the network configuration`,
    );
  }
  if (link.kind !== 'bridge') throw noBridge(bridge);
  if (!link.up) throw unusable(`bridge "${bridge}" is down; start it (ip link set ${bridge} up)`);
  if (!link.filtersVlans && (port?.vlan !== undefined || port?.trunk !== undefined)) {
    // Its guests would all be in one network, and nobody would be told.
    throw unusable(
      `bridge "${bridge}" does not keep VLANs apart, as vlan and trunk of the network configuration want; turn it on (ip link set ${bridge} type bridge vlan_filtering 1)`,
    );
  }
  return link;
}

function noBridge(bridge: string): CniError {
  return unusable(
    `"${bridge}" is a link of this node but no Linux bridge; name a bridge in the network configuration`,
  );
}

async function expectOvsBridge(host: Host, bridge: string, signal?: AbortSignal): Promise<void> {
  try {
    await host.exec(
      'ovs-vsctl',
      ['--timeout=5', 'br-exists', bridge],
      signal === undefined ? {} : { signal },
    );
  } catch (cause) {
    const error = VmError.from(cause);
    if (error.kind === 'Canceled') throw error;
    if (error.kind === 'NotFound') {
      throw unusable(
        'mode "ovs" needs the command ovs-vsctl; install Open vSwitch (openvswitch-switch)',
        error,
      );
    }
    // Only "no such bridge" is silent.
    const reason = / ended with status 2$/.test(error.message)
      ? `Open vSwitch has no bridge "${bridge}"; make it (ovs-vsctl add-br ${bridge})`
      : `cannot ask Open vSwitch for bridge "${bridge}": ${error.message}`;
    throw unusable(reason, error);
  }
}

async function makeBridge(
  host: Host,
  bridge: string,
  mtu: number | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  // With an address of its own: else it takes that of a port, and changes it under the guests' feet with every port.
  const tail = [...crypto.getRandomValues(new Uint8Array(5))];
  const mac = ['02', ...tail.map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
  const size = mtu === undefined ? [] : ['mtu', String(mtu)];
  const command = ['link', 'add', 'name', bridge, ...size, 'address', mac, 'type', 'bridge'];
  try {
    await host.exec('ip', command, signal === undefined ? {} : { signal });
  } catch (error) {
    // Another pod's ADD was faster.
    if ((await findLink(host, bridge, signal)) === undefined) throw error;
  }
}

function unusable(message: string, cause?: unknown): CniError {
  return new CniError(CNI_CODE.attachment, message, { cause });
}
