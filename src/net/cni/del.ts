import type { Host } from '../../host/host.ts';
import type { CniEnvironment, Nic } from './cni-call.ts';
import { Ipam } from './ipam.ts';
import { removeNic, revokeClaim } from './nic-claim.ts';
import type { NetworkIdentity } from './network-config.ts';

/**
 * DEL: gives the addresses back and removes the hand-over. Idempotent, and works without the namespace and without a
 * hand-over. The hand-over goes last, so that GC still finds a NIC whose addresses could not be given back. An ADD that is
 * still at work fails, and gives back what it took.
 */
export async function del(
  host: Host,
  network: NetworkIdentity,
  { nic, environment }: { nic: Nic; environment: CniEnvironment },
  signal?: AbortSignal,
): Promise<void> {
  revokeClaim(host, network.stateDir, nic);
  await new Ipam(host, network, environment, signal).del();
  removeNic(host, network.stateDir, nic);
}
