import { VmError } from '../../core/errors.ts';
import { absentIs } from '../../host/absent-is.ts';
import type { Host } from '../../host/host.ts';
import { bootId } from '../../host/process-identity.ts';
import { type Lease, listIfThere } from '../handover.ts';
import { tapName } from '../tap-name.ts';
import type { CniEnvironment } from './cni-call.ts';
import { Ipam } from './ipam.ts';
import { NETWORK_NAME } from './names.ts';
import { type NetworkIdentity, parseNetworkIdentity } from './network-config.ts';

/** Addresses of a guest that outlives its sandbox, and what frees them in the end. */
export interface KeptNic {
  readonly network: string;
  readonly lease: Lease;
  /** What the runtime called DEL with, for who frees the lease in the end. */
  readonly config: string;
  readonly environment: CniEnvironment;
}

/** A NIC as IPAM knows its addresses. */
export interface LeaseKey {
  readonly sandboxId: string;
  readonly ifName: string;
}

const SUFFIX = '.json';

const directoryOf = (dataDir: string): string => `${dataDir}/leases`;

function notePath(dataDir: string, { sandboxId, ifName }: LeaseKey): string {
  // Ids may be as long as file names; the hash of a TAP's name is not.
  return `${directoryOf(dataDir)}/${tapName(sandboxId, ifName)}${SUFFIX}`;
}

/**
 * Notes, where reboots do not reach, that IPAM knows the addresses of a guest by the id of a sandbox that is gone. The files
 * in `stateDir` say so too, but go with the node's memory; IPAM's own store usually stays, and no runtime would ever name that
 * sandbox again. A note that cannot be written keeps no pod from going: then the addresses are lost by a reboot.
 */
export function noteLease(host: Host, dataDir: string, nic: KeptNic): void {
  try {
    // Made by the shim. Where it is not, the shim has another one.
    if (host.inspect(dataDir) === undefined) return;
    host.makeDir(directoryOf(dataDir), 0o700);
    host.replaceFile(
      notePath(dataDir, keyOf(nic)),
      `${JSON.stringify({ ...nic, bootId: bootId(host) })}\n`,
      0o600,
    );
  } catch (error) {
    if (!VmError.is(error)) throw error;
  }
}

/** The lease has been freed. Absent is fine. */
export function forgetLease(host: Host, dataDir: string, key: LeaseKey): void {
  absentIs(undefined, () => host.remove(notePath(dataDir, key)));
}

/**
 * Frees what guests of a network had that ran when the node went down: with their boot they have ended, and their pods
 * get addresses anew. Goes on after a failure, whose note stays for the next time.
 * @throws VmError the first of them.
 */
export async function freeEarlierBoots(
  host: Host,
  { dataDir, name }: NetworkIdentity,
  signal?: AbortSignal,
): Promise<void> {
  const files = listIfThere(host, directoryOf(dataDir)).filter((file) => file.endsWith(SUFFIX));
  if (files.length === 0) return;
  const now = bootId(host);
  const failures: unknown[] = [];
  for (const file of files) {
    const path = `${directoryOf(dataDir)}/${file}`;
    const note = readKept(host, path);
    if (note?.network !== name || note.bootId === undefined || note.bootId === now) continue;
    try {
      await freeLease(host, note, signal);
      host.remove(path);
    } catch (error) {
      if (VmError.is(error, 'Canceled')) throw error;
      failures.push(error);
    }
  }
  if (failures.length > 0) throw VmError.from(failures[0]);
}

/** @throws VmError when the IPAM plugin fails; then it can be tried again. */
export async function freeLease(
  host: Host,
  { config, environment, lease }: KeptNic,
  signal?: AbortSignal,
): Promise<void> {
  const ipam = new Ipam(host, parseNetworkIdentity(config), environment, signal);
  await ipam.del({ CNI_CONTAINERID: lease.sandboxId });
}

export function keyOf({ lease, environment }: KeptNic): LeaseKey {
  return { sandboxId: lease.sandboxId, ifName: environment['CNI_IFNAME'] ?? '' };
}

/** Undefined where none is; a damaged one says nothing that could be freed. */
export function readKept(
  host: Host,
  path: string,
): (KeptNic & { readonly bootId: string | undefined }) | undefined {
  const text = absentIs(undefined, () => host.readText(path));
  if (text === undefined) return undefined;
  let value: (Partial<KeptNic> & { readonly bootId?: unknown }) | null;
  try {
    value = JSON.parse(text) as typeof value;
  } catch {
    return undefined;
  }
  const { network, lease, config, environment, bootId: boot } = value ?? {};
  const whole =
    typeof network === 'string' && NETWORK_NAME.test(network) && typeof lease?.sandboxId === 'string';
  if (!whole || typeof config !== 'string' || typeof environment !== 'object') return undefined;
  return { network, lease, config, environment, bootId: typeof boot === 'string' ? boot : undefined };
}
