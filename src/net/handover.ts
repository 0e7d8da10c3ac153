import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import type {
  GuestAddress,
  GuestInterface,
  GuestRoute,
  TapAttachment,
  TapHandover,
} from './guest-network.ts';
import { JsonField } from './cni/json-field.ts';
import { canonicalIp, parsePrefix } from './cni/ip-address.ts';
import { MAC_TYPE, parseMac } from './cni/guest-mac.ts';
import { IF_NAME, IF_NAME_TYPE, SANDBOX_ID } from './cni/names.ts';

/** What is in the file: the hand-over, and which CNI network it belongs to, for GC. */
export interface StoredHandover extends TapHandover {
  /** `name` of the network configuration. */
  readonly network: string;
}

const MODE = 0o600;
const DIRECTORY_MODE = 0o700;
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
    .sort(byNicOrder)
    .map((ifName) => {
      const { network: _, ...handover } = readOne(host, stateDir, sandboxId, ifName);
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

/** Every NIC that has a hand-over on this node, by the names of the files alone: a damaged one is listed as well. */
export function listHandovers(host: Host, stateDir: string): { sandboxId: string; ifName: string }[] {
  return listIfThere(host, `${stateDir}/cni`).flatMap((sandboxId) =>
    listNics(host, stateDir, sandboxId).map((ifName) => ({ sandboxId, ifName })),
  );
}

/** Atomic and durable. */
export function writeHandover(host: Host, stateDir: string, handover: StoredHandover): void {
  host.makeDir(directoryOf(stateDir, handover.sandboxId), DIRECTORY_MODE);
  const path = handoverPath(stateDir, handover.sandboxId, handover.guest.ifName);
  host.replaceFile(path, `${JSON.stringify(handover, null, 2)}\n`, MODE);
}

/** Absent is fine. Takes what a killed `writeHandover` left along, and the sandbox's directory with its last NIC. */
export function removeHandover(host: Host, stateDir: string, sandboxId: string, ifName: string): void {
  const directory = directoryOf(stateDir, sandboxId);
  const file = `${ifName}${SUFFIX}`;
  for (const name of listIfThere(host, directory)) {
    if (name === file || (name.startsWith(`.${file}.`) && name.endsWith('.tmp'))) {
      host.remove(`${directory}/${name}`);
    }
  }
  try {
    host.remove(directory);
  } catch (error) {
    // Not empty: the sandbox has another NIC.
    if (!VmError.is(error, 'FailedPrecondition')) throw error;
  }
}

function handoverPath(stateDir: string, sandboxId: string, ifName: string): string {
  return `${directoryOf(stateDir, sandboxId)}/${ifName}${SUFFIX}`;
}

function directoryOf(stateDir: string, sandboxId: string): string {
  return `${stateDir}/cni/${sandboxId}`;
}

function listNics(host: Host, stateDir: string, sandboxId: string): string[] {
  return listIfThere(host, directoryOf(stateDir, sandboxId))
    .filter((name) => name.endsWith(SUFFIX))
    .map((name) => name.slice(0, -SUFFIX.length));
}

function listIfThere(host: Host, directory: string): string[] {
  try {
    return host.listDir(directory);
  } catch (error) {
    if (VmError.is(error, 'NotFound')) return [];
    throw error;
  }
}

function byNicOrder(a: string, b: string): number {
  if (a === 'eth0' || b === 'eth0') return a === b ? 0 : a === 'eth0' ? -1 : 1;
  return a.length - b.length || (a < b ? -1 : 1);
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
    guest: parseGuest(root.at('guest')),
  };
}

function parseAttachment(field: JsonField): TapAttachment {
  const kind = field
    .at('kind')
    .requiredText('bridge, ovs or routed', (text) =>
      text === 'bridge' || text === 'ovs' || text === 'routed' ? text : undefined,
    );
  if (kind === 'routed') return { kind };
  return { kind, bridge: field.at('bridge').requiredText(IF_NAME_TYPE, ifNameOf) };
}

function parseGuest(field: JsonField): GuestInterface {
  const dns = field.at('dns');
  return {
    ifName: field.at('ifName').requiredText(IF_NAME_TYPE, ifNameOf),
    mac: field.at('mac').requiredText(MAC_TYPE, parseMac),
    mtu: field.at('mtu').required('a number', (value) => (typeof value === 'number' ? value : undefined)),
    addresses: field.at('addresses').list().map(parseAddress),
    routes: field.at('routes').list().map(parseRoute),
    dns: {
      nameservers: dns.at('nameservers').list().map(parseAnyIp),
      search: dns
        .at('search')
        .list()
        .map((entry) => entry.requiredText('a domain', (text) => text || undefined)),
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

function parseAnyIp(field: JsonField): string {
  return field.requiredText('an IP address', canonicalIp);
}

function absolute(text: string): string | undefined {
  return text.startsWith('/') ? text : undefined;
}

function ifNameOf(text: string): string | undefined {
  return IF_NAME.test(text) ? text : undefined;
}
