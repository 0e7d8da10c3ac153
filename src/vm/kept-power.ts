import type { VmOwner } from '../core/vm-spec.ts';
import { absentIs } from '../host/absent-is.ts';
import type { Host } from '../host/host.ts';
import { planStateDirectory } from '../storage/state-directory.ts';

/** What outlives a pod's containers and the node's reboots: that its VM was switched off, and why. */
export interface KeptPower {
  /** Undefined where the VM is to run. */
  read(): string | undefined;
  /** Undefined: the VM is to run. */
  write(why: string | undefined): void;
}

/** Lies where the pod's disks lie, and goes with them; its text is for people. */
const FILE = 'power-off';
const LONGEST = 500;

/**
 * A pod's VM that is off stays off when its container is made anew: after a failed probe, a crash of the shim, a reboot of
 * the node. So a server in OpenStack does. A pod of another UID begins anew, whatever disk it has, and so does a bare container.
 */
export function keptPower(
  host: Host,
  owner: VmOwner,
  place: { readonly dataDir: string; readonly id: string; readonly namespace: string },
): KeptPower {
  if (owner.kind === 'container') return { read: () => undefined, write: () => undefined };
  const { path } = planStateDirectory(owner, { ...place, bundleRootfs: '', nodeKey: '' });
  const file = `${path}/${FILE}`;
  return {
    read: () => absentIs(undefined, () => host.readText(file).trim().slice(0, LONGEST)),
    write: (why) => {
      if (why === undefined) {
        absentIs(undefined, () => host.remove(file));
        return;
      }
      host.makeDir(path, 0o700);
      host.replaceFile(file, `${why}\n`, 0o600);
    },
  };
}
