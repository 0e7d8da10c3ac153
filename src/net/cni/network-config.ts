import { show } from '../../core/spec-field.ts';
import { suggestName } from '../../core/nearest-name.ts';
import type { Bandwidth } from '../bandwidth.ts';
import type { TapAttachment } from '../guest-network.ts';
import { parseBandwidth } from './cni-bandwidth.ts';
import { type CniDns, firstDns, parseDns, parseRuntimeDns } from './cni-dns.ts';
import { CNI_CODE, CniError } from './cni-error.ts';
import { CNI_VERSIONS, type CniVersion, findVersion } from './cni-version.ts';
import { MAC_TYPE, parseMac } from './guest-mac.ts';
import { JsonField } from './json-field.ts';
import { NETWORK_NAME } from './names.ts';
import { bridgeAttachment, parsePortOptions } from './port-options.ts';

/** As much of a configuration as tearing down needs, so that a mistake in the rest cannot keep a pod from going. */
export interface NetworkIdentity {
  readonly cniVersion: CniVersion;
  readonly name: string;
  /** Absolute path of the node's volatile state. */
  readonly stateDir: string;
  /** Absolute path of what stays over reboots. */
  readonly dataDir: string;
  /** `ipam.type`; undefined for a network whose guests get no address from here. */
  readonly ipam: string | undefined;
  /** The whole, as plugins that we run get it. */
  readonly text: string;
  readonly document: JsonField;
}

export interface NetworkConfig extends NetworkIdentity {
  readonly attachment: TapAttachment;
  /** Bytes; undefined for the bridge's. */
  readonly mtu: number | undefined;
  /** Make the bridge, with the gateway addresses of IPAM on it. */
  readonly isGateway: boolean;
  /** Whether the guest gets a default route where IPAM has none; undefined leaves it to the name of the NIC. */
  readonly isDefaultGateway: boolean | undefined;
  /** What the runtime asked for, by `runtimeConfig.mac` (capability `mac`) or `args.cni.mac`. */
  readonly mac: string | undefined;
  /** What the pod's annotation `vmshim.io/mac` asks for its first NIC, where the runtime tells. */
  readonly podMac: string | undefined;
  /** What the runtime asked for, by `runtimeConfig.bandwidth` (capability `bandwidth`). */
  readonly bandwidth: Bandwidth | undefined;
  /** Instead of IPAM's where it says anything: what the runtime said, else the configuration. */
  readonly dns: CniDns;
}

/** Keys of the configuration, all in docs/cni.md. Those with a dot or slash in them are the runtime's. */
export const CONFIG_KEYS = [
  ...[
    'cniVersion',
    'name',
    'type',
    'mode',
    'bridge',
    'mtu',
    'stateDir',
    'dataDir',
    'mac',
    'isGateway',
    'isDefaultGateway',
  ],
  ...['vlan', 'trunk', 'isolated', 'hairpin'],
  ...['ipam', 'dns', 'args', 'capabilities', 'runtimeConfig', 'prevResult'],
];

/** Keys of the stock bridge plugin that somebody may bring along, and what to write instead. */
const FOREIGN_KEYS: Readonly<Record<string, string>> = {
  macspoofchk: 'remove it: the spoof guard is always on, and checks more than MAC addresses',
  hairpinMode: 'write hairpin',
  portIsolation: 'write isolated',
  vlanTrunk: 'write trunk',
  preserveDefaultVlan: 'remove it: a port with vlan or trunk is in these VLANs only',
  promiscMode: 'remove it: a bridge learns where its guests are',
  forceAddress: 'remove it: addresses that the bridge has are left alone',
  ipMasq: 'remove it: translation of addresses on the way out is the node’s business',
};

/** The capability by which containerd's CRI plugin tells the annotations of a pod, and the one we look for. */
const POD_ANNOTATIONS = 'io.kubernetes.cri.pod-annotations';
const MAC_ANNOTATION = 'vmshim.io/mac';
const STATE_DIR = '/run/vmshim';
const DATA_DIR = '/var/lib/vmshim';
const MIN_MTU = 68;
/** 65535 less the Ethernet header: the TAP driver's limit. */
const MAX_MTU = 65_521;

/**
 * Reads what every command needs from the configuration on stdin.
 * @throws CniError `decoding` for what is no JSON, `incompatibleVersion`, `config`.
 */
export function parseNetworkIdentity(text: string): NetworkIdentity {
  const document = new JsonField(decode(text), 'the network configuration', invalid);
  const said = document.at('cniVersion').value;
  const cniVersion = findVersion(said);
  if (cniVersion === undefined) {
    throw new CniError(
      CNI_CODE.incompatibleVersion,
      `cniVersion of the network configuration is ${said === undefined ? 'missing' : show(said)}; vm-tap knows ${CNI_VERSIONS.join(', ')}`,
    );
  }
  return {
    cniVersion,
    name: document
      .at('name')
      .requiredText('letters, digits, "_", "." and "-", the first a letter or digit', (name) =>
        NETWORK_NAME.test(name) ? name : undefined,
      ),
    stateDir: document.at('stateDir').parsedText('an absolute path without ".."', absolutePath) ?? STATE_DIR,
    dataDir: document.at('dataDir').parsedText('an absolute path without ".."', absolutePath) ?? DATA_DIR,
    ipam: parseIpamType(document.at('ipam')),
    text,
    document,
  };
}

/** Reads all of it. Throws CniError `config`. */
export function parseNetworkConfig(identity: NetworkIdentity): NetworkConfig {
  const { document } = identity;
  for (const key of Object.keys(document.object() ?? {})) {
    if (CONFIG_KEYS.includes(key) || /[./]/.test(key)) continue;
    const remedy = Object.hasOwn(FOREIGN_KEYS, key) ? FOREIGN_KEYS[key] : suggestName(key, CONFIG_KEYS);
    throw invalid(`unknown key ${show(key)} in the network configuration; ${remedy ?? ''}`);
  }
  document
    .at('mac')
    .parsedText('"derived" (a fixed address would be every pod’s)', (text) =>
      text === 'derived' ? text : undefined,
    );
  const config: NetworkConfig = {
    ...identity,
    attachment: parseAttachment(document),
    mtu: document.at('mtu').integer(0, MAX_MTU) || undefined,
    isGateway: document.at('isGateway').flag() ?? false,
    isDefaultGateway: document.at('isDefaultGateway').flag(),
    mac:
      document.at('runtimeConfig').at('mac').parsedText(MAC_TYPE, parseMac) ??
      document.at('args').at('cni').at('mac').parsedText(MAC_TYPE, parseMac),
    podMac: document
      .at('runtimeConfig')
      .at(POD_ANNOTATIONS)
      .at(MAC_ANNOTATION)
      .parsedText(MAC_TYPE, parseMac),
    bandwidth: parseBandwidth(document.at('runtimeConfig').at('bandwidth')),
    dns: firstDns(parseRuntimeDns(document.at('runtimeConfig').at('dns')), parseDns(document.at('dns'))),
  };
  expectSense(config);
  return config;
}

function decode(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const found = text.trim() === '' ? 'empty' : show(text.trim());
    throw new CniError(
      CNI_CODE.decoding,
      `stdin must be the network configuration in JSON, but is ${found}`,
      { cause },
    );
  }
}

function parseIpamType(field: JsonField): string | undefined {
  if (Object.keys(field.object() ?? {}).length === 0) return undefined;
  // Becomes a file name in the directories of CNI_PATH.
  return field
    .at('type')
    .requiredText('the name of an IPAM plugin, such as "host-local"', (type) =>
      /^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(type) ? type : undefined,
    );
}

function parseAttachment(document: JsonField): TapAttachment {
  const kind =
    document
      .at('mode')
      .parsedText('"bridge", "ovs" or "routed"', (text) =>
        text === 'bridge' || text === 'ovs' || text === 'routed' ? text : undefined,
      ) ?? 'bridge';
  const bridge = document.at('bridge');
  const port = parsePortOptions(document);
  if (kind !== 'routed') {
    if (kind === 'bridge' || port.hairpin !== true) return bridgeAttachment(kind, bridge, port);
    throw invalid('hairpin of the network configuration is for mode "bridge", not "ovs": remove it');
  }
  const [option] = Object.keys(port);
  if (option !== undefined) {
    throw invalid(
      `${option} of the network configuration is for ports of a bridge, which mode "routed" has none of: remove one of both`,
    );
  }
  if (bridge.text() === undefined) return { kind };
  throw invalid('bridge of the network configuration makes no sense with mode "routed": remove one of both');
}

function expectSense({ attachment, isGateway, ipam, mtu }: NetworkConfig): void {
  if (mtu !== undefined && mtu < MIN_MTU) {
    throw invalid(
      `mtu of the network configuration is ${mtu}; it must be from ${MIN_MTU} to ${MAX_MTU}, or 0 for the bridge’s`,
    );
  }
  if (isGateway && attachment.kind !== 'bridge') {
    throw invalid(
      `isGateway of the network configuration is for mode "bridge", not "${attachment.kind}": remove it`,
    );
  }
  if (ipam === undefined && (isGateway || attachment.kind === 'routed')) {
    const why = isGateway ? 'isGateway' : 'mode "routed"';
    throw invalid(
      `${why} of the network configuration needs addresses: set ipam, such as {"type": "host-local", …}`,
    );
  }
  if (ipam === 'dhcp') {
    throw invalid(
      'ipam.type of the network configuration is "dhcp", which needs a link in the pod’s namespace: leave ipam out, so that the guest asks the network’s DHCP server itself, or use another type',
    );
  }
}

function absolutePath(text: string): string | undefined {
  return /^\/[^\p{Cc}]+$/u.test(text) && !text.split('/').includes('..') ? text : undefined;
}

function invalid(message: string): CniError {
  return new CniError(CNI_CODE.config, message);
}
