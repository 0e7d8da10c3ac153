import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import type { Bandwidth, RateLimit } from './bandwidth.ts';
import type {
  GuestAddress,
  GuestInterface,
  GuestRoute,
  TapAttachment,
  TapHandover,
} from './guest-network.ts';
import { nicOrder } from './nic-order.ts';
import { JsonField } from './cni/json-field.ts';
import { canonicalIp, parsePrefix } from './cni/ip-address.ts';
import { MAC_TYPE, parseMac } from './cni/guest-mac.ts';
import { IF_NAME, IF_NAME_TYPE, SANDBOX_ID } from './cni/names.ts';
import { bridgeAttachment, parsePortOptions } from './cni/port-options.ts';

/** What is in the file: the hand-over, and which CNI network it belongs to, for GC. */
export interface StoredHandover extends TapHandover {
  /** `name` of the network configuration. */
  readonly network: string;
  /** How IPAM knows its addresses; undefined in files of older versions, where it is by the sandbox's own id. */
  readonly lease: Lease | undefined;
}

/** Addresses that IPAM has given. A guest that goes from one sandbox of its pod to the next keeps them. */
export interface Lease {
  /** CNI_CONTAINERID that IPAM was asked with. */
  readonly sandboxId: string;
  /** Its answer as it was; undefined without an IPAM plugin. */
  readonly result: unknown;
}

const SUFFIX = '.json';

/**
 * What `vm-tap` left for a sandbox: one entry per NIC, `eth0` first, then `net1`, `net2` … `net10`. Empty for a sandbox
 * that no `vm-tap` network was added to.
 * @param stateDir the node's volatile state, `/run/vmshim`; the same as `stateDir` of the CNI configuration.
 * @throws VmError InvalidArgument for an id that cannot be containerd's, FailedPrecondition for a damaged file.
 */
export function readHandovers(host: Host, stateDir: string, sandboxId: string): TapHandover[] {
  if (!SANDBOX_ID.test(sandboxId)) {
    throw new VmError(
      'InvalidArgument',
      `"${sandboxId}" is no id of a sandbox; use the one containerd gave it`,
    );
  }
  return listNics(host, stateDir, sandboxId)
    .sort(nicOrder)
    .map((ifName) => {
      const { network: _network, lease: _lease, ...handover } = readOne(host, stateDir, sandboxId, ifName);
      return handover;
    });
}

/** One NIC's hand-over, undefined where none is. Throws FailedPrecondition when it is damaged. */
export function findHandover(
  host: Host,
  stateDir: string,
  sandboxId: string,
  ifName: string,
): StoredHandover | undefined {
  const there = host.inspect(handoverPath(stateDir, sandboxId, ifName)) !== undefined;
  return there ? readOne(host, stateDir, sandboxId, ifName) : undefined;
}

/** Where the hand-overs of a sandbox are. */
export function handoverDirectory(stateDir: string, sandboxId: string): string {
  return `${stateDir}/cni/${sandboxId}`;
}

/** Removes the directory of a sandbox whose last NIC has gone. */
export function removeIfEmpty(host: Host, directory: string): void {
  try {
    host.remove(directory);
  } catch (error) {
    // Not empty: the sandbox has another NIC.
    if (!VmError.is(error, 'FailedPrecondition')) throw error;
  }
}

export function handoverPath(stateDir: string, sandboxId: string, ifName: string): string {
  return `${handoverDirectory(stateDir, sandboxId)}/${ifName}${SUFFIX}`;
}

function listNics(host: Host, stateDir: string, sandboxId: string): string[] {
  return listIfThere(host, handoverDirectory(stateDir, sandboxId))
    .filter((name) => name.endsWith(SUFFIX))
    .map((name) => name.slice(0, -SUFFIX.length));
}

export function listIfThere(host: Host, directory: string): string[] {
  try {
    return host.listDir(directory);
  } catch (error) {
    if (VmError.is(error, 'NotFound')) return [];
    throw error;
  }
}

function readOne(host: Host, stateDir: string, sandboxId: string, ifName: string): StoredHandover {
  const path = handoverPath(stateDir, sandboxId, ifName);
  const damaged = (message: string): VmError =>
    new VmError('FailedPrecondition', `${message}; delete the pod, so that vm-tap writes the file anew`);
  let value: unknown;
  try {
    value = JSON.parse(host.readText(path));
  } catch (error) {
    if (VmError.is(error)) throw error;
    throw damaged(`hand-over file ${path} is no JSON`);
  }
  const handover = parseHandover(new JsonField(value, `hand-over file ${path}`, damaged));
  if (handover.sandboxId === sandboxId && handover.guest.ifName === ifName) return handover;
  throw damaged(`hand-over file ${path} is about ${handover.guest.ifName} of sandbox ${handover.sandboxId}`);
}

function parseHandover(root: JsonField): StoredHandover {
  root.at('version').required('1', (value) => (value === 1 ? value : undefined));
  return {
    version: 1,
    network: root.at('network').requiredText('the name of a CNI network', (text) => text || undefined),
    sandboxId: root
      .at('sandboxId')
      .requiredText('an id', (text) => (SANDBOX_ID.test(text) ? text : undefined)),
    netns: root.at('netns').requiredText('an absolute path', absolute),
    tap: root.at('tap').requiredText(IF_NAME_TYPE, ifNameOf),
    attachment: parseAttachment(root.at('attachment')),
    bandwidth: parseBandwidth(root.at('bandwidth')),
    guest: parseGuest(root.at('guest')),
    lease: parseLease(root.at('lease')),
  };
}

function parseLease(field: JsonField): Lease | undefined {
  if (field.object() === undefined) return undefined;
  const sandboxId = field
    .at('sandboxId')
    .requiredText('an id', (text) => (SANDBOX_ID.test(text) ? text : undefined));
  return { sandboxId, result: field.at('result').value };
}

function parseAttachment(field: JsonField): TapAttachment {
  const kind = field
    .at('kind')
    .requiredText('bridge, ovs or routed', (text) =>
      text === 'bridge' || text === 'ovs' || text === 'routed' ? text : undefined,
    );
  if (kind === 'routed') return { kind };
  return bridgeAttachment(kind, field.at('bridge'), parsePortOptions(field.at('port')));
}

function parseBandwidth(field: JsonField): Bandwidth | undefined {
  if (field.object() === undefined) return undefined;
  return { received: parseRate(field.at('received')), sent: parseRate(field.at('sent')) };
}

function parseRate(field: JsonField): RateLimit | undefined {
  if (field.object() === undefined) return undefined;
  const positive = (value: unknown): number | undefined =>
    typeof value === 'number' && value > 0 ? value : undefined;
  return {
    bitsPerSecond: field.at('bitsPerSecond').required('a positive number', positive),
    burstBytes: field.at('burstBytes').required('a positive number', positive),
  };
}

function parseGuest(field: JsonField): GuestInterface {
  const dns = field.at('dns');
  const options = texts(dns.at('options'), 'an option');
  return {
    ifName: field.at('ifName').requiredText(IF_NAME_TYPE, ifNameOf),
    mac: field.at('mac').requiredText(MAC_TYPE, parseMac),
    mtu: field.at('mtu').required('a number', (value) => (typeof value === 'number' ? value : undefined)),
    addresses: field.at('addresses').list().map(parseAddress),
    routes: field.at('routes').list().map(parseRoute),
    dns: {
      nameservers: dns.at('nameservers').list().map(parseAnyIp),
      search: texts(dns.at('search'), 'a domain'),
      ...(options.length > 0 && { options }),
    },
  };
}

function parseAddress(field: JsonField): GuestAddress {
  const address = parseAnyIp(field.at('address'));
  const prefixLength = field.at('prefixLength').integer(0, address.includes(':') ? 128 : 32);
  if (prefixLength === undefined) throw field.at('prefixLength').invalid('a number');
  return { address, prefixLength, gateway: field.at('gateway').parsedText('an IP address', canonicalIp) };
}

function parseRoute(field: JsonField): GuestRoute {
  return {
    destination: field.at('destination').requiredText('a CIDR', (text) => parsePrefix(text)?.text),
    gateway: field.at('gateway').parsedText('an IP address', canonicalIp),
  };
}

function texts(field: JsonField, wanted: string): string[] {
  return field.list().map((entry) => entry.requiredText(wanted, (text) => text || undefined));
}

function parseAnyIp(field: JsonField): string {
  return field.requiredText('an IP address', canonicalIp);
}

function absolute(text: string): string | undefined {
  return text.startsWith('/') ? text : undefined;
}

function ifNameOf(text: string): string | undefined {
  return IF_NAME.test(text) ? text : undefined;
}
