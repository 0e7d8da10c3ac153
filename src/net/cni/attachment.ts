import { VmError } from '../../core/errors.ts';
import type { Host } from '../../host/host.ts';
import type { GuestAddress, TapAttachment } from '../guest-network.ts';
import { CNI_CODE, CniError } from './cni-error.ts';
import { ipFamily } from './ip-address.ts';

const LINKS = '/sys/class/net';
const IFF_UP = 1;
const DEFAULT_MTU = 1500;

/**
 * Makes sure that what TAPs are to be attached to is there and up.
 * @throws CniError `attachment` with what is wrong and how to mend it.
 */
export async function expectAttachment(
  host: Host,
  attachment: TapAttachment,
  signal?: AbortSignal,
): Promise<void> {
  switch (attachment.kind) {
    case 'routed':
      break;
    case 'bridge':
      expectBridge(host, attachment.bridge);
      break;
    case 'ovs':
      await expectOvsBridge(host, attachment.bridge, signal);
  }
}

/** Bytes; what guests get where the configuration does not say. */
export function attachmentMtu(host: Host, attachment: TapAttachment): number {
  const text = attachment.kind === 'routed' ? undefined : readLink(host, attachment.bridge, 'mtu');
  return Number(text ?? DEFAULT_MTU);
}

/** Makes the bridge where it is missing, and puts the gateways of the addresses on it, with their prefix lengths. */
export async function ensureGateway(
  host: Host,
  bridge: string,
  {
    addresses,
    mtu,
    signal,
  }: { addresses: readonly GuestAddress[]; mtu: number | undefined; signal?: AbortSignal | undefined },
): Promise<void> {
  const options = signal === undefined ? {} : { signal };
  if (!isThere(host, bridge)) await makeBridge(host, bridge, mtu, options);
  const lines = [`link set dev ${bridge} up`];
  for (const { address, gateway, prefixLength } of addresses) {
    if (gateway === undefined) continue;
    // Nobody else has it, and a guest may ask for it at once.
    const flags = ipFamily(address) === 6 ? ' nodad' : '';
    lines.push(`address replace ${gateway}/${prefixLength} dev ${bridge}${flags}`);
  }
  await host.exec('ip', ['-batch', '-'], { ...options, input: `${lines.join('\n')}\n` });
  expectBridge(host, bridge);
}

/** The bridge a link is a port of; undefined for none, and where there is no such link. */
export function bridgeOf(host: Host, link: string): string | undefined {
  const uevent = readLink(host, link, 'master/uevent');
  return uevent === undefined ? undefined : /^INTERFACE=(.*)$/m.exec(uevent)?.[1];
}

function expectBridge(host: Host, bridge: string): void {
  if (!isThere(host, bridge)) {
    throw unusable(
      `bridge "${bridge}" does not exist on this node; make it (ip link add ${bridge} type bridge; ip link set ${bridge} up), or set "isGateway": true in the network configuration`,
    );
  }
  if (host.inspect(`${LINKS}/${bridge}/bridge`) === undefined) {
    throw unusable(
      `"${bridge}" is a link of this node but no Linux bridge; name a bridge in the network configuration`,
    );
  }
  if ((Number(readLink(host, bridge, 'flags')) & IFF_UP) === 0) {
    throw unusable(`bridge "${bridge}" is down; start it (ip link set ${bridge} up)`);
  }
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
  options: { signal?: AbortSignal },
): Promise<void> {
  // With an address of its own: else it takes that of a port, and changes it under the guests' feet with every port.
  const tail = [...crypto.getRandomValues(new Uint8Array(5))];
  const mac = ['02', ...tail.map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
  const size = mtu === undefined ? [] : ['mtu', String(mtu)];
  try {
    await host.exec(
      'ip',
      ['link', 'add', 'name', bridge, ...size, 'address', mac, 'type', 'bridge'],
      options,
    );
  } catch (error) {
    // Another pod's ADD was faster.
    if (!isThere(host, bridge)) throw error;
  }
}

function isThere(host: Host, link: string): boolean {
  return host.inspect(`${LINKS}/${link}`) !== undefined;
}

function readLink(host: Host, link: string, file: string): string | undefined {
  try {
    return host.readText(`${LINKS}/${link}/${file}`);
  } catch (error) {
    if (VmError.is(error, 'NotFound')) return undefined;
    throw error;
  }
}

function unusable(message: string, cause?: unknown): CniError {
  return new CniError(CNI_CODE.attachment, message, { cause });
}
