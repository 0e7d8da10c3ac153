import type { Host } from '../../host/host.ts';
import { removeHandover } from '../handover.ts';
import type { CniEnvironment, Nic } from './cni-call.ts';
import { Ipam } from './ipam.ts';
import type { NetworkIdentity } from './network-config.ts';

/**
 * DEL: gives the addresses back and removes the hand-over. Idempotent, and works without the namespace and without a
 * hand-over. The hand-over goes last, so that GC still finds a NIC whose addresses could not be given back.
 */
export async function del(
  host: Host,
  network: NetworkIdentity,
  { nic, environment }: { nic: Nic; environment: CniEnvironment },
  signal?: AbortSignal,
): Promise<void> {
  await new Ipam(host, network, environment, signal).del();
  removeHandover(host, network.stateDir, nic.sandboxId, nic.ifName);
}
