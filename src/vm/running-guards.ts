import type { Host } from '../host/host.ts';
import { bootId, isAlive } from '../host/process-identity.ts';
import { guardEntry } from '../net/attach-nic.ts';
import type { GuardEntry } from '../net/guard.ts';
import { readVmRecords } from './record-directory.ts';

/** What the spoof guard of this node's namespace must hold for the VMs that run now, as their records tell. */
export function runningGuards(host: Host, stateDir: string): GuardEntry[] {
  const boot = bootId(host);
  return readVmRecords(host, stateDir)
    .filter(({ qemu, bootId }) => bootId === boot && qemu !== undefined && isAlive(host, { ...qemu, bootId }))
    .flatMap(({ nics }) => nics)
    .flatMap((nic) => (nic.kind === 'tap' && nic.guarded ? [guardEntry(nic)] : []));
}
