import { VmError } from '../../core/errors.ts';
import type { Host } from '../../host/host.ts';
import type { CniEnvironment } from './cni-call.ts';
import { CNI_CODE, CniError } from './cni-error.ts';
import { del } from './del.ts';
import { Ipam, VALID } from './ipam.ts';
import { listKept, releaseDead } from './kept-nic.ts';
import { freeEarlierBoots } from './lease-note.ts';
import { leaseOfNic, listNics, networkOfNic } from './nic-claim.ts';
import type { NetworkIdentity } from './network-config.ts';

/**
 * GC: gives back and removes all of this network that the runtime does not list. Goes on after a failure and reports
 * all of them in the end.
 */
export async function gc(
  host: Host,
  network: NetworkIdentity,
  environment: CniEnvironment,
  signal?: AbortSignal,
): Promise<void> {
  const valid = parseValid(network);
  const ipam = new Ipam(host, network, environment, signal);
  const failures: VmError[] = [];
  const attempt = async (effect: () => Promise<void>): Promise<void> => {
    try {
      await effect();
    } catch (error) {
      if (VmError.is(error, 'Canceled')) throw error;
      failures.push(VmError.from(error));
    }
  };
  for (const nic of listNics(host, network.stateDir)) {
    const { sandboxId, ifName } = nic;
    if (valid.has(`${sandboxId}/${ifName}`)) continue;
    await attempt(async () => {
      if (networkOfNic(host, network.stateDir, nic) !== network.name) return;
      const variables = { CNI_CONTAINERID: sandboxId, CNI_IFNAME: ifName, CNI_NETNS: '' };
      await del(host, network, { nic, environment: { ...environment, ...variables } }, signal);
    });
  }
  await attempt(() => freeEarlierBoots(host, network, signal));
  await attempt(() => releaseDead(host, network.stateDir, network.name, signal));
  await attempt(() => ipam.gc(leasesInUse(host, network)));
  if (failures.length === 0) return;
  throw new CniError(
    CNI_CODE.internal,
    `not all of network "${network.name}" could be cleaned: ${failures.map(({ message }) => message).join('; ')}`,
    { cause: new AggregateError(failures) },
  );
}

/** Nothing that is absent or malformed may mean "none": that would take the network from every pod. */
function parseValid({ document }: NetworkIdentity): Set<string> {
  const field = document.at(VALID);
  if (field.value === undefined) throw field.invalid('the list of attachments to keep');
  const some = (text: string): string | undefined => text || undefined;
  return new Set(
    field
      .list()
      .map(
        (entry) =>
          `${entry.at('containerID').requiredText('an id', some)}/${entry.at('ifname').requiredText('the name of a link', some)}`,
      ),
  );
}

/** Leases by other ids than the sandboxes' that have them now. */
function leasesInUse(
  host: Host,
  { stateDir, name }: NetworkIdentity,
): { readonly containerID: string; readonly ifname: string }[] {
  const kept = listKept(host, stateDir, name).map(({ kept: { lease, environment } }) => ({
    containerID: lease.sandboxId,
    ifname: environment['CNI_IFNAME'] ?? '',
  }));
  const taken = listNics(host, stateDir).flatMap((nic) => {
    const containerID = leaseOfNic(host, stateDir, nic);
    return containerID === nic.sandboxId ? [] : [{ containerID, ifname: nic.ifName }];
  });
  return [...kept, ...taken];
}
