import { VmError } from '../../core/errors.ts';
import type { Host } from '../../host/host.ts';
import { describeBandwidth, type RateLimit } from '../bandwidth.ts';
import type { TapAttachment } from '../guest-network.ts';
import { findHandover, type StoredHandover } from '../handover.ts';
import { findLink } from '../node-link.ts';
import { readRate, shaperName } from '../shape.ts';
import { expectAttachment } from './attachment.ts';
import type { CniEnvironment, Nic } from './cni-call.ts';
import { CNI_CODE, CniError } from './cni-error.ts';
import { parsePrefix } from './ip-address.ts';
import { Ipam } from './ipam.ts';
import type { NetworkConfig } from './network-config.ts';
import { leaseOfNic } from './nic-claim.ts';

/**
 * CHECK: compares the hand-over with what the runtime was told, and looks at the node and at IPAM.
 * @throws CniError `differs` with everything that is not as ADD left it.
 */
export async function check(
  host: Host,
  config: NetworkConfig,
  { nic, environment }: { nic: Nic; environment: CniEnvironment },
  signal?: AbortSignal,
): Promise<void> {
  if (config.document.at('prevResult').object() === undefined) {
    throw new CniError(
      CNI_CODE.config,
      'prevResult of the network configuration is missing; CHECK compares with it',
    );
  }
  const differences: string[] = [];
  const collect = async (look: () => Promise<void> | void): Promise<void> => {
    try {
      await look();
    } catch (error) {
      if (VmError.is(error, 'Canceled')) throw error;
      differences.push(VmError.from(error).message);
    }
  };
  let mtu: number | undefined;
  await collect(async () => {
    mtu = await expectAttachment(host, config.attachment, signal);
  });
  await collect(async () => {
    const handover = findHandover(host, config.stateDir, nic.sandboxId, nic.ifName);
    if (handover === undefined) {
      differences.push('its hand-over file is gone, so a shim cannot make it again: delete the pod');
      return;
    }
    differences.push(
      ...compareResult(config, nic, handover),
      ...compareAttachment(config, handover),
      ...compareLimits(config, handover),
    );
    // The TAP and its queues are there while the VM runs.
    const link = await findLink(host, handover.tap, signal);
    if (link === undefined) return;
    const { compareTap } = await import('./check-tap.ts');
    differences.push(
      ...(await compareTap(host, link, handover, mtu, signal)),
      ...(await compareQueues(host, handover, signal)),
    );
  });
  const lease = { CNI_CONTAINERID: leaseOfNic(host, config.stateDir, nic) };
  await collect(() => new Ipam(host, config, { ...environment, ...lease }, signal).check());
  if (differences.length === 0) return;
  throw new CniError(
    CNI_CODE.differs,
    `${nic.ifName} of sandbox ${nic.sandboxId}: ${differences.join('; ')}`,
  );
}

/** What the runtime remembers, which later plugins of the chain may have added to but not changed. */
function compareResult({ document }: NetworkConfig, nic: Nic, { guest, tap }: StoredHandover): string[] {
  const result = document.at('prevResult');
  const interfaces = result.at('interfaces').list();
  const own = interfaces.findIndex(
    (entry) => entry.at('name').text() === guest.ifName && entry.at('sandbox').text() === nic.netns,
  );
  if (own < 0) return [`prevResult has no interface ${guest.ifName} in ${nic.netns}`];
  const told = result
    .at('ips')
    .list()
    .filter((ip) => (ip.at('interface').value ?? own) === own)
    .map((ip) => ip.at('address').requiredText('a CIDR', (text) => parsePrefix(text)?.text));
  const kept = guest.addresses.map(({ address, prefixLength }) => `${address}/${prefixLength}`);
  const hasTap = interfaces.some((entry) => entry.at('name').text() === tap);
  return [
    ...difference('addresses', told.sort().join(', '), kept.sort().join(', ')),
    ...difference('MAC address', interfaces[own]?.at('mac').text()?.toLowerCase() ?? '', guest.mac),
    ...(hasTap ? [] : [`prevResult does not name its TAP ${tap}`]),
  ];
}

function compareAttachment(config: NetworkConfig, { attachment }: StoredHandover): string[] {
  const [found, wanted] = [describe(attachment), describe(config.attachment)];
  if (found === wanted) return [];
  return [`it was attached by ${found}, the network configuration says ${wanted}`];
}

function compareLimits(config: NetworkConfig, { bandwidth }: StoredHandover): string[] {
  const [wanted, found] = [describeBandwidth(config.bandwidth), describeBandwidth(bandwidth)];
  if (wanted === found) return [];
  return [`runtimeConfig has the bandwidth limits ${wanted}, the hand-over file ${found}`];
}

async function compareQueues(
  host: Host,
  { bandwidth, tap }: StoredHandover,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  if (bandwidth === undefined) return [];
  const rateOf = async (limit: RateLimit | undefined, link: string): Promise<RateLimit | undefined> => {
    const bitsPerSecond = limit === undefined ? undefined : await readRate(host, link, signal);
    return bitsPerSecond === undefined ? undefined : { bitsPerSecond, burstBytes: 0 };
  };
  const wanted = describeBandwidth(bandwidth);
  const actual = describeBandwidth({
    received: await rateOf(bandwidth.received, tap),
    sent: await rateOf(bandwidth.sent, shaperName(tap)),
  });
  return actual === wanted ? [] : [`TAP ${tap} has the bandwidth limits ${actual} and not ${wanted}`];
}

function difference(what: string, told: string, kept: string): string[] {
  if (told === kept) return [];
  return [`prevResult has ${what} ${told || 'none'}, the hand-over file ${kept || 'none'}`];
}

function describe(attachment: TapAttachment): string {
  if (attachment.kind === 'routed') return 'routes';
  const { kind, bridge, port } = attachment;
  return `${kind} "${bridge}"${port === undefined ? '' : ` with ${JSON.stringify(port)}`}`;
}
