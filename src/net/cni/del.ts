import { VmError } from '../../core/errors.ts';
import type { Host } from '../../host/host.ts';
import { findHandover } from '../handover.ts';
import type { CniEnvironment } from './cni-call.ts';
import { Ipam } from './ipam.ts';
import { isKept, keepNic } from './kept-nic.ts';
import { forgetLease, freeEarlierBoots } from './lease-note.ts';
import { leaseMovedOn, leaseOfNic, type NicKey, removeNic, revokeClaim } from './nic-claim.ts';
import type { NetworkIdentity } from './network-config.ts';

/**
 * DEL: gives the addresses back and removes the hand-over. Idempotent, and works without the namespace and without a
 * hand-over. The hand-over goes last, so that GC still finds a NIC whose addresses could not be given back. An ADD that is
 * still at work fails, and gives back what it took.
 *
 * A guest that outlives its sandbox keeps its addresses: they are the next sandbox's of its pod, or freed when it ends.
 */
export async function del(
  host: Host,
  network: NetworkIdentity,
  { nic, environment }: { nic: NicKey; environment: CniEnvironment },
  signal?: AbortSignal,
): Promise<void> {
  revokeClaim(host, network.stateDir, nic);
  await freeEarlierBoots(host, network, signal).catch(expectNotCanceled);
  const { stateDir, name } = network;
  const handover = readable(() => findHandover(host, stateDir, nic.sandboxId, nic.ifName));
  const lease = handover?.lease;
  if (handover !== undefined && lease !== undefined) {
    const kept = { network: name, lease, config: network.text, environment };
    if (keepNic(host, network, handover, kept)) {
      removeNic(host, stateDir, nic);
      return;
    }
  }
  if (isKept(host, stateDir, name, nic) || leaseMovedOn(host, stateDir, nic)) return;
  const sandboxId = leaseOfNic(host, stateDir, nic);
  await new Ipam(host, network, environment, signal).del({ CNI_CONTAINERID: sandboxId });
  forgetLease(host, network.dataDir, { sandboxId, ifName: nic.ifName });
  removeNic(host, network.stateDir, nic);
}

/** What is old must not keep what is new from coming or going; GC tells of it. */
export function expectNotCanceled(error: unknown): void {
  if (VmError.is(error, 'Canceled')) throw error;
}

/** A damaged file must not keep a pod from going. */
function readable<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (VmError.is(error, 'FailedPrecondition')) return undefined;
    throw error;
  }
}
