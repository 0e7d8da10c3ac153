import type { Host } from '../host/host.ts';
import { VmError } from '../core/errors.ts';

/** A link of the namespace that we are in, the node's. */
export interface NodeLink {
  readonly name: string;
  readonly up: boolean;
  /** Bytes. */
  readonly mtu: number;
  /** Of the driver, such as `bridge`; undefined for a real card, and `tun` for a TAP. */
  readonly kind: string | undefined;
  /** The bridge it is a port of. */
  readonly bridge: string | undefined;
  /** Of a bridge: whether it keeps VLANs apart. */
  readonly filtersVlans: boolean;
  /** CIDR, as ip(8) writes them. */
  readonly addresses: readonly string[];
}

/** What we use of `ip -details -json address show`. */
interface IpLink {
  readonly ifname: string;
  readonly flags: readonly string[];
  readonly mtu: number;
  readonly master?: string;
  readonly linkinfo?: {
    readonly info_kind?: string;
    readonly info_data?: { readonly vlan_filtering?: number };
  };
  readonly addr_info?: readonly { readonly local?: string; readonly prefixlen?: number }[];
}

/**
 * Asks the kernel for a link, undefined where there is none of that name. Not by /sys/class/net, which shows the links of
 * whoever mounted it: in a container, or below `ip netns exec` of somebody else, those of another namespace.
 */
export async function findLink(
  host: Host,
  name: string,
  signal?: AbortSignal,
): Promise<NodeLink | undefined> {
  const args = ['-details', '-json', 'address', 'show', 'dev', name];
  const { status, stdout, stderr } = await host.exec('ip', args, {
    anyStatus: true,
    ...(signal !== undefined && { signal }),
  });
  if (status !== 0) {
    if (stderr.includes('does not exist')) return undefined;
    throw new VmError('Internal', `ip ${args.join(' ')} ended with status ${status}: ${stderr.trim()}`);
  }
  const found = (JSON.parse(stdout) as readonly IpLink[]).find(({ ifname }) => ifname === name);
  return found === undefined ? undefined : nodeLink(found);
}

function nodeLink({ ifname, flags, mtu, master, linkinfo, addr_info = [] }: IpLink): NodeLink {
  return {
    name: ifname,
    up: flags.includes('UP'),
    mtu,
    kind: linkinfo?.info_kind,
    bridge: master,
    filtersVlans: linkinfo?.info_data?.vlan_filtering === 1,
    addresses: addr_info.flatMap(({ local, prefixlen }) =>
      local === undefined || prefixlen === undefined ? [] : [`${local}/${prefixlen}`],
    ),
  };
}
