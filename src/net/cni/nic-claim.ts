import { VmError } from '../../core/errors.ts';
import { absentIs } from '../../host/absent-is.ts';
import type { Host } from '../../host/host.ts';
import { openFlags } from '../../host/open-flags.ts';
import {
  handoverDirectory,
  handoverPath,
  listIfThere,
  removeIfEmpty,
  type StoredHandover,
} from '../handover.ts';
import { CNI_CODE, CniError } from './cni-error.ts';

/**
 * The files of a NIC: its hand-over `eth0.json`; `eth0.TOKEN.adding` of an ADD that is at work, or was killed at it, and
 * becomes the hand-over; `eth0.TOKEN.leaving` of such an ADD after DEL has come; `eth0.TOKEN.taken` of a guest that an ADD takes over. The token keeps apart an ADD that DEL was
 * too fast for, and the next one.
 */
const NIC_FILE = /^(.+?)(?:\.json|\.[0-9a-f]{16}\.(?:adding|leaving|taken))$/;
const ADDING = '.adding';

export interface NicKey {
  readonly sandboxId: string;
  readonly ifName: string;
}

/**
 * A NIC that an ADD is making. It is on disk before anything is asked of IPAM, so that GC finds it when ADD is killed.
 * Disposing takes back what was not settled.
 */
export interface NicClaim extends Disposable {
  /**
   * Makes it the NIC's hand-over, whole and at once.
   * @throws CniError `handover` when DEL has come meanwhile; then there is none, and never will be.
   */
  commit(handover: StoredHandover): void;
  /** Leaves it for DEL and GC. */
  keep(): void;
}

/** @throws CniError `handover` when another ADD has it, or had when it was killed. */
export function claimNic(
  host: Host,
  stateDir: string,
  { sandboxId, ifName, network }: NicKey & { readonly network: string },
): NicClaim {
  const directory = handoverDirectory(stateDir, sandboxId);
  const token = Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString('hex');
  const path = `${directory}/${ifName}.${token}${ADDING}`;
  host.makeDir(directory, 0o700);
  using made = new DisposableStack();
  const { O_CREAT, O_EXCL, O_WRONLY } = openFlags;
  const { fd } = made.use(host.open(path, O_CREAT | O_EXCL | O_WRONLY, 0o600));
  host.writeBytes(fd, 0, Buffer.from(JSON.stringify({ network })));
  const others = filesOf(host, stateDir, { sandboxId, ifName }).filter((file) => file !== path);
  if (others.length > 0) {
    host.remove(path);
    throw new CniError(
      CNI_CODE.handover,
      `${ifName} of sandbox ${sandboxId} is being added, or its ADD was killed; the runtime has to call DEL before it adds it again`,
    );
  }
  let settled = false;
  const kept = made.move();
  return {
    commit: (handover) => {
      // In one write, and longer than what was there: whoever reads it meanwhile sees the one or the other.
      host.writeBytes(fd, 0, Buffer.from(`${JSON.stringify(handover, null, 2)}\n`));
      host.sync(fd);
      try {
        host.rename(path, handoverPath(stateDir, sandboxId, ifName));
      } catch (error) {
        if (!VmError.is(error, 'NotFound')) throw error;
        throw new CniError(
          CNI_CODE.handover,
          `${ifName} of sandbox ${sandboxId} was deleted while it was being added; add it again if it is still wanted`,
          { cause: error },
        );
      }
      settled = true;
    },
    keep: () => {
      settled = true;
    },
    [Symbol.dispose]: () => {
      kept.dispose();
      if (settled) return;
      host.remove(path);
      removeIfEmpty(host, directory);
    },
  };
}

/** From now on no ADD that is at work can commit; what it has taken is given back by it, or by `removeNic`'s caller. */
export function revokeClaim(host: Host, stateDir: string, nic: NicKey): void {
  for (const path of filesOf(host, stateDir, nic)) {
    if (!path.endsWith(ADDING)) continue;
    try {
      host.rename(path, `${path.slice(0, -ADDING.length)}.leaving`);
    } catch (error) {
      // It has just been committed or given up.
      if (!VmError.is(error, 'NotFound')) throw error;
    }
  }
}

/** All files of a NIC; absent is fine. */
export function removeNic(host: Host, stateDir: string, nic: NicKey): void {
  for (const path of filesOf(host, stateDir, nic)) host.remove(path);
  removeIfEmpty(host, handoverDirectory(stateDir, nic.sandboxId));
}

/** Every NIC that has a file on this node, by the names alone: one whose file is damaged is listed as well. */
export function listNics(host: Host, stateDir: string): NicKey[] {
  return listIfThere(host, `${stateDir}/cni`).flatMap((sandboxId) => {
    const files = listIfThere(host, handoverDirectory(stateDir, sandboxId));
    const ifNames = new Set(files.flatMap((file) => ifNameOf(file) ?? []));
    return [...ifNames].map((ifName) => ({ sandboxId, ifName }));
  });
}

function filesOf(host: Host, stateDir: string, { sandboxId, ifName }: NicKey): string[] {
  const directory = handoverDirectory(stateDir, sandboxId);
  return listIfThere(host, directory)
    .filter((file) => ifNameOf(file) === ifName)
    .map((file) => `${directory}/${file}`);
}

function ifNameOf(file: string): string | undefined {
  return NIC_FILE.exec(file)?.[1];
}

/**
 * The CNI network a NIC is of; undefined when its files have just gone.
 * @throws VmError FailedPrecondition when none of them says.
 */
export function networkOfNic(host: Host, stateDir: string, nic: NicKey): string | undefined {
  const paths = filesOf(host, stateDir, nic);
  for (const path of paths) {
    const said = readNetwork(host.readText(path));
    if (said !== undefined) return said;
  }
  if (paths.length === 0) return undefined;
  throw new VmError(
    'FailedPrecondition',
    `${paths.join(' and ')} does not say which network it is of; delete the pod, or the file when there is no such pod`,
  );
}

/** The id that IPAM knows a NIC's addresses by: its sandbox's own, or that of an earlier sandbox of the pod. */
export function leaseOfNic(host: Host, stateDir: string, nic: NicKey): string {
  for (const path of filesOf(host, stateDir, nic)) {
    const said = readLease(absentIs('', () => host.readText(path)));
    if (said !== undefined) return said;
  }
  return nic.sandboxId;
}

/** Whether nothing is here of a NIC, but its addresses are another sandbox's of the pod by now. */
export function leaseMovedOn(host: Host, stateDir: string, { sandboxId, ifName }: NicKey): boolean {
  if (filesOf(host, stateDir, { sandboxId, ifName }).length > 0) return false;
  return listNics(host, stateDir).some(
    (nic) => nic.ifName === ifName && leaseOfNic(host, stateDir, nic) === sandboxId,
  );
}

function readLease(text: string): string | undefined {
  try {
    const { lease } = JSON.parse(text) as { lease?: { sandboxId?: unknown } };
    return typeof lease?.sandboxId === 'string' ? lease.sandboxId : undefined;
  } catch {
    return undefined;
  }
}

function readNetwork(text: string): string | undefined {
  try {
    const { network } = JSON.parse(text) as { network?: unknown };
    return typeof network === 'string' ? network : undefined;
  } catch {
    return undefined;
  }
}
