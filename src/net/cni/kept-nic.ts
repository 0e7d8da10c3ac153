import { VmError } from '../../core/errors.ts';
import type { Host } from '../../host/host.ts';
import { handoverDirectory, type Lease, listIfThere, type StoredHandover } from '../handover.ts';
import { tapName } from '../tap-name.ts';
import type { Nic } from './cni-call.ts';
import { forgetLease, freeLease, keyOf, type KeptNic, noteLease, readKept } from './lease-note.ts';
import { type NetworkIdentity, parseNetworkIdentity } from './network-config.ts';

const PREFIX = 'kept-';
const SUFFIX = '.json';
const RELEASING = '.releasing';

function keptPath(stateDir: string, tap: string): string {
  return `${stateDir}/${PREFIX}${tap}${SUFFIX}`;
}

/** A TAP is there as long as QEMU has it open, and no longer. */
function tapLives(host: Host, tap: string): boolean {
  return host.inspect(`/sys/class/net/${tap}`) !== undefined;
}

/**
 * Keeps the NIC of a guest that still runs: its addresses stay taken until the pod's next sandbox takes them over or the guest
 * ends. It is found by the TAP, whose name is a function of the pod and the interface.
 * @returns false for one that has ended, whose NIC is to be removed.
 */
export function keepNic(
  host: Host,
  { stateDir, dataDir }: Pick<NetworkIdentity, 'stateDir' | 'dataDir'>,
  { tap }: StoredHandover,
  nic: KeptNic,
): boolean {
  if (!tapLives(host, tap)) return false;
  const path = keptPath(stateDir, tap);
  noteLease(host, dataDir, nic);
  host.replaceFile(path, `${JSON.stringify(nic)}\n`, 0o600);
  // Whoever ends a guest looks for this file after the TAP has gone: of the two of us one sees the other.
  if (tapLives(host, tap)) return true;
  host.remove(path);
  return false;
}

/** A kept NIC that a new sandbox has taken; until `settle` it can be given back. */
export interface TakenNic {
  readonly lease: Lease;
  settle(): void;
  giveBack(): void;
}

/**
 * Takes over what was kept for a pod's running guest. The file becomes one of the new NIC's, so that DEL and GC find the
 * lease when we are killed.
 * @param network name of the CNI network; another one has other addresses.
 */
export function takeKept(
  host: Host,
  stateDir: string,
  { sandboxId, ifName, owner }: Nic,
  network: string,
): TakenNic | undefined {
  const tap = tapName(owner, ifName);
  const path = keptPath(stateDir, tap);
  const kept = readKept(host, path);
  if (kept?.network !== network || !tapLives(host, tap)) return undefined;
  const token = Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString('hex');
  const taken = `${handoverDirectory(stateDir, sandboxId)}/${ifName}.${token}.taken`;
  if (!moved(host, path, taken)) return undefined;
  return {
    lease: kept.lease,
    settle: () => host.remove(taken),
    giveBack: () => void moved(host, taken, path),
  };
}

/**
 * Frees the lease of a guest that has ended. Idempotent; nothing happens when the pod's next sandbox has it.
 * @throws VmError when the IPAM plugin fails; then it can be tried again.
 */
export async function releaseKept(
  host: Host,
  stateDir: string,
  tap: string,
  signal?: AbortSignal,
): Promise<void> {
  const path = keptPath(stateDir, tap);
  const releasing = `${path}${RELEASING}`;
  moved(host, path, releasing);
  const kept = readKept(host, releasing);
  if (kept !== undefined) {
    await freeLease(host, kept, signal);
    forgetLease(host, parseNetworkIdentity(kept.config).dataDir, keyOf(kept));
  }
  host.remove(releasing);
}

/** Whether this NIC's addresses are kept for its guest: a runtime may call DEL more than once. */
export function isKept(
  host: Host,
  stateDir: string,
  network: string,
  { sandboxId, ifName }: Pick<Nic, 'sandboxId' | 'ifName'>,
): boolean {
  return listKept(host, stateDir, network).some(
    ({ kept: { lease, environment } }) =>
      lease.sandboxId === sandboxId && environment['CNI_IFNAME'] === ifName,
  );
}

/** NICs that are kept for guests of a network, and their TAPs. */
export function listKept(host: Host, stateDir: string, network: string): { tap: string; kept: KeptNic }[] {
  return listIfThere(host, stateDir).flatMap((name) => {
    if (!name.startsWith(PREFIX) || !name.endsWith(SUFFIX)) return [];
    const kept = readKept(host, `${stateDir}/${name}`);
    return kept?.network === network ? [{ tap: name.slice(PREFIX.length, -SUFFIX.length), kept }] : [];
  });
}

/** Frees what was kept for guests of a network that have ended. */
export async function releaseDead(
  host: Host,
  stateDir: string,
  network: string,
  signal?: AbortSignal,
): Promise<void> {
  for (const { tap } of listKept(host, stateDir, network))
    if (!tapLives(host, tap)) await releaseKept(host, stateDir, tap, signal);
}

function moved(host: Host, from: string, to: string): boolean {
  try {
    host.rename(from, to);
    return true;
  } catch (error) {
    if (VmError.is(error, 'NotFound')) return false;
    throw error;
  }
}
