import { VmError } from '../../core/errors.ts';
import type { Host } from '../../host/host.ts';
import { type PortOptions, vlansOf } from '../bridge-port.ts';
import { readGuardCounters } from '../guard.ts';
import { guardTap } from '../guard-point.ts';
import type { TapHandover } from '../guest-network.ts';
import type { NodeLink } from '../node-link.ts';
import { ipFamily, maxPrefix } from './ip-address.ts';

/**
 * What of a running VM's TAP is not as the shim made it, a sentence each. Loaded when there is a TAP, for its sake only.
 * @param attachmentMtu of the bridge, in bytes; undefined where that is not known.
 */
export async function compareTap(
  host: Host,
  link: NodeLink,
  handover: TapHandover,
  attachmentMtu: number | undefined,
  signal?: AbortSignal,
): Promise<string[]> {
  const { tap, attachment, guest } = handover;
  const bridgeMtu = attachment.kind === 'routed' ? undefined : attachmentMtu;
  const guarded = await readGuardCounters(host, guardTap(tap, attachment), signal);
  return [
    ...(link.up ? [] : [`TAP ${tap} is down`]),
    ...(link.mtu === guest.mtu ? [] : [`the MTU of TAP ${tap} is ${link.mtu}, the guest’s ${guest.mtu}`]),
    ...(bridgeMtu === undefined || bridgeMtu >= guest.mtu
      ? []
      : [`the MTU of its bridge is ${bridgeMtu}, the guest’s ${guest.mtu}, so its long frames are lost`]),
    ...(await comparePlace(host, link, handover, signal)),
    ...(guarded !== undefined
      ? []
      : [
          `the spoof guard of TAP ${tap} is gone, as after "nft flush ruleset": stop the VM and start it again`,
        ]),
  ];
}

async function comparePlace(
  host: Host,
  link: NodeLink,
  { tap, attachment, guest }: TapHandover,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const options = signal === undefined ? {} : { signal };
  switch (attachment.kind) {
    case 'bridge': {
      if (link.bridge !== attachment.bridge) return [elsewhere(tap, link.bridge, attachment.bridge)];
      const { port } = attachment;
      if (port?.vlan === undefined && port?.trunk === undefined) return [];
      const { stdout } = await host.exec('bridge', ['-json', 'vlan', 'show', 'dev', tap], options);
      return compareVlans(tap, port, JSON.parse(stdout) as BridgeVlans[]);
    }
    case 'ovs': {
      const args = ['--timeout=5', 'port-to-br', tap];
      const { status, stdout, stderr } = await host.exec('ovs-vsctl', args, { ...options, anyStatus: true });
      if (status !== 0 && !stderr.includes('no port named')) {
        throw new VmError('Unavailable', `cannot ask Open vSwitch for port ${tap}: ${stderr.trim()}`);
      }
      const found = status === 0 ? stdout.trim() : undefined;
      return found === attachment.bridge ? [] : [elsewhere(tap, found, attachment.bridge)];
    }
    case 'routed': {
      const lost: string[] = [];
      for (const { address } of guest.addresses) {
        const route = `${address}/${maxPrefix(address)}`;
        const family = `-${ipFamily(address)}`;
        const { stdout } = await host.exec('ip', [family, 'route', 'show', route, 'dev', tap], options);
        if (stdout.trim() === '') lost.push(`the node has no route to ${address} by TAP ${tap}`);
      }
      return lost;
    }
  }
}

/** What we use of `bridge -json vlan show`. */
interface BridgeVlans {
  readonly vlans?: readonly {
    readonly vlan: number;
    readonly vlanEnd?: number;
    readonly flags?: readonly string[];
  }[];
}

function compareVlans(tap: string, port: PortOptions, [shown]: readonly BridgeVlans[]): string[] {
  const found = (shown?.vlans ?? []).flatMap(({ vlan, vlanEnd = vlan, flags = [] }) =>
    Array.from({ length: vlanEnd - vlan + 1 }, (_, i) => ({ id: vlan + i, native: flags.includes('PVID') })),
  );
  const wanted = expandVlans(port);
  const text = (vlans: readonly { id: number; native: boolean }[]): string =>
    vlans
      .toSorted((a, b) => a.id - b.id)
      .map(({ id, native }) => (native ? `${id} untagged` : String(id)))
      .join(', ') || 'none';
  if (text(found) === text(wanted)) return [];
  return [`TAP ${tap} is in the VLANs ${text(found)}, and should be in ${text(wanted)}`];
}

function expandVlans({ vlan, trunk = [] }: PortOptions): { id: number; native: boolean }[] {
  const ids = new Set([...vlansOf({ trunk }), ...(vlan === undefined ? [] : [vlan])]);
  return [...ids].map((id) => ({ id, native: id === vlan }));
}

function elsewhere(tap: string, found: string | undefined, wanted: string): string {
  return `TAP ${tap} is a port of ${found ?? 'no bridge'} and not of ${wanted}`;
}
