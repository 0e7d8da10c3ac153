import { absentIs } from '../host/absent-is.ts';
import { LOCK_EX } from '../host/flock.ts';
import type { Host } from '../host/host.ts';
import type { Native } from '../host/native.ts';
import { openFlags } from '../host/open-flags.ts';

const { O_RDWR, O_CREAT, O_NOFOLLOW } = openFlags;

/**
 * Held while it is decided whose a VM is: by the shim that takes it over, by `delete` that leaves it, by the keeper that
 * ends it. Each looks at the record, writes itself into it and lets go, so waiting is short; after that the record says who
 * has it, and the kernel whether that one still lives.
 */
export function lockOwners(host: Host, native: Pick<Native, 'flock'>, stateDir: string): Disposable {
  using opened = new DisposableStack();
  const { fd } = opened.use(host.open(`${stateDir}/owners.lock`, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600));
  native.flock(fd, LOCK_EX);
  return opened.move();
}

/**
 * A file in the state directory by which the next shim finds its pod's guest, whose record bears another id. It is there as
 * long as a VM that may outlive its shim: a new shim may come before containerd has run `delete` for the dead one.
 */
function markerOf(stateDir: string, owner: string): string {
  return `${stateDir}/owner-${owner}`;
}

export function writeMarker(host: Host, stateDir: string, owner: string, runDir: string): void {
  host.replaceFile(markerOf(stateDir, owner), `${runDir}\n`, 0o600);
}

/** The directory of an owner's VM; undefined where there is none that may outlive its shim. */
export function readMarker(host: Host, stateDir: string, owner: string): string | undefined {
  return absentIs('', () => host.readText(markerOf(stateDir, owner))).trim() || undefined;
}

/** Unless it points to another VM by now. */
export function removeMarker(host: Host, stateDir: string, owner: string, runDir: string): void {
  if (readMarker(host, stateDir, owner) === runDir) host.remove(markerOf(stateDir, owner));
}
