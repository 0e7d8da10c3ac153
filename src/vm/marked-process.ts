import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { type ProcessIdentity, readIdentity } from '../host/process-identity.ts';

/** The variable in QEMU's environment that names its VM. */
export const KEY_VARIABLE = 'VMSHIM_KEY';

/**
 * The processes that carry a VM's key: finds a QEMU whose shim died between starting it and writing down its pid. Looks
 * at every process of the host, so it is for that moment only.
 */
export function findMarkedProcesses(host: Host, key: string, bootId: string): ProcessIdentity[] {
  return host.listDir('/proc').flatMap((name) => {
    const pid = Number(name);
    if (!Number.isInteger(pid) || !environment(host, pid).includes(`${KEY_VARIABLE}=${key}`)) return [];
    const status = readIdentity(host, pid);
    return status === undefined ? [] : [{ pid, startTime: status.startTime, bootId }];
  });
}

function environment(host: Host, pid: number): string[] {
  try {
    return host.readText(`/proc/${pid}/environ`).split('\0');
  } catch (error) {
    // It ended while we looked, or is a kernel thread.
    if (error instanceof VmError) return [];
    throw error;
  }
}
