import { absentIs } from '../host/absent-is.ts';
import type { Host } from '../host/host.ts';

/**
 * A pod's VM is named in the sandbox's bundle as well as in its container's own. To a shim of version 3 containerd runs
 * `delete` for the sandbox alone, so when such a shim was killed, this is how its VM is found.
 */
const PREFIX = 'vmshim-member-';

/**
 * Names a record in a bundle, before there is a record. Disposing takes the name away once the record is gone; what could
 * not be cleaned up stays named.
 */
export function nameMember(host: Host, bundle: string, id: string, record: string): Disposable {
  const path = `${bundle}/${PREFIX}${id}`;
  // The bundle goes with its sandbox, and is not ours to make again.
  absentIs(undefined, () => host.replaceFile(path, `${record}\n`, 0o600));
  return {
    [Symbol.dispose]: () => {
      if (host.inspect(record) === undefined) host.remove(path);
    },
  };
}

/** Paths of the records that a bundle names. */
export function listMembers(host: Host, bundle: string): string[] {
  return absentIs([], () => host.listDir(bundle))
    .filter((name) => name.startsWith(PREFIX))
    .map((name) => host.readText(`${bundle}/${name}`).trim())
    .filter((path) => path.startsWith('/'));
}
