import { absentIs } from '../host/absent-is.ts';
import type { Host } from '../host/host.ts';

/**
 * The bundle tells where a VM's record is: containerd gives `delete` nothing but the bundle, and the state directory may
 * have come from a runtime option that `delete` never sees.
 */
const POINTER = 'vmshim-record';

export function writeRecordPointer(host: Host, bundle: string, record: string): void {
  host.replaceFile(`${bundle}/${POINTER}`, `${record}\n`, 0o600);
}

/** Path of the record, or undefined where the bundle names none. */
export function findRecord(host: Host, bundle: string): string | undefined {
  const path = absentIs('', () => host.readText(`${bundle}/${POINTER}`)).trim();
  return path.startsWith('/') ? path : undefined;
}

/** Kept in the bundle of a pod's sandbox: paths of the records of the pod's VMs, one per line. */
const MEMBERS = 'vmshim-members';

/**
 * Names a VM in the bundle of its pod's sandbox, before the VM is made. To a shim that answered with version 3, containerd
 * runs `delete` for the sandbox alone: what is not named there outlives the pod.
 */
export function writeMemberPointer(host: Host, sandboxBundle: string, record: string): void {
  // A container that is started again has a new record; those of its predecessors have gone, as a rule.
  const living = findMembers(host, sandboxBundle).filter((path) => host.inspect(path) !== undefined);
  host.replaceFile(`${sandboxBundle}/${MEMBERS}`, `${[...living, record].join('\n')}\n`, 0o600);
}

/** Paths of records of the pod's VMs; empty where the bundle is no sandbox's, or its VMs have bundles of their own. */
export function findMembers(host: Host, bundle: string): string[] {
  const text = absentIs('', () => host.readText(`${bundle}/${MEMBERS}`));
  return text.split('\n').filter((path) => path.startsWith('/'));
}
