import { LOCK_EX, LOCK_NB, LOCK_SH } from '../host/flock.ts';
import type { Host } from '../host/host.ts';
import type { Native } from '../host/native.ts';
import { openFlags } from '../host/open-flags.ts';

const { O_RDWR, O_CREAT, O_NOFOLLOW } = openFlags;

/**
 * Keeps the garbage collection out while a VM says which disk it wants and makes it: whoever comes later sees either
 * the record or nothing. The collection has the gate for a few system calls only, so waiting for it is short.
 */
export function enterDisks(host: Host, native: Pick<Native, 'flock'>, dataDir: string): Disposable {
  const gate = openGate(host, dataDir);
  native.flock(gate.fd, LOCK_SH);
  return gate;
}

/** Keeps all VMs from making disks. @param wait called when that is not possible at once. */
export function closeDisks(
  host: Host,
  native: Pick<Native, 'flock'>,
  dataDir: string,
  wait: () => void,
): Disposable {
  const gate = openGate(host, dataDir);
  if (!native.flock(gate.fd, LOCK_EX | LOCK_NB)) {
    wait();
    native.flock(gate.fd, LOCK_EX);
  }
  return gate;
}

function openGate(host: Host, dataDir: string): ReturnType<Host['open']> {
  return host.open(`${dataDir}/gc.lock`, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
}
