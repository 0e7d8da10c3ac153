import { VmError } from '../core/errors.ts';
import type { RootPlace, VmOwner } from '../core/vm-spec.ts';
import type { Host } from '../host/host.ts';
import { quoteName } from './image-file.ts';
import { deriveToken } from './node-key.ts';
import { parentOf, syncDirectory } from './publish-file.ts';

export interface StatePlace {
  /** The container's root file system, where it is mounted. */
  readonly bundleRootfs: string;
  /** `/var/lib/vmshim`. */
  readonly dataDir: string;
  /** containerd's id and namespace of the container. */
  readonly id: string;
  readonly namespace: string;
  /** From `readNodeKey`. */
  readonly nodeKey: string;
}

/** Where what outlives a VM's process is kept. */
export interface StateDirectory {
  readonly path: string;
  /** The existing directory it is made in. */
  readonly root: string;
  /** Whether `root` came with the image, so that nothing in it can be trusted by its name alone. */
  readonly hostileRoot: boolean;
  /** A volume's directory is not ours to make: it is there, or the volume is not mounted. */
  readonly foreign?: true;
}

const RESERVED = '.vmshim';
/** Pod UIDs, static pods' hashes, pod names (RFC 1123 subdomains) and container names all fit. */
const SAFE_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$/;

/**
 * A pod's disks are kept in our data directory under its UID, and stay across restarts of the container.
 *
 * A bare container's are kept in its own writable snapshot, so that containerd keeps and deletes them with the
 * container. That snapshot shows the image's files too, and a hostile image may hold a prepared overlay, NVRAM or
 * symbolic link under any name its author can think of. So the directory's name is an HMAC of the container's identity
 * under a key only this node has: what is found below it was put there by this node, without any mark in the files
 * that could be copied, and with nothing to write or sync for it.
 *
 * A volume's directory holds the disk itself; what else is in it, and under which names, is its users' business.
 */
export function planStateDirectory(
  owner: VmOwner,
  place: StatePlace,
  root: RootPlace = { kind: 'own' },
): StateDirectory {
  if (root.kind === 'volume')
    return { path: root.directory, root: root.directory, hostileRoot: false, foreign: true };
  if (owner.kind === 'pod') {
    const container = safeName('container name', owner.container);
    const parent =
      root.kind === 'name'
        ? `${place.dataDir}/kept/${safeName('namespace', owner.namespace)}/${safeName('pod name', owner.name)}`
        : `${place.dataDir}/pods/${safeName('pod UID', owner.uid)}`;
    return { path: `${parent}/${container}`, root: place.dataDir, hostileRoot: false };
  }
  const token = deriveToken(place.nodeKey, ['state directory', place.namespace, place.id]);
  return { path: `${place.bundleRootfs}/${RESERVED}-${token}`, root: place.bundleRootfs, hostileRoot: true };
}

function safeName(field: string, value: string): string {
  if (SAFE_NAME.test(value)) return value;
  throw new VmError(
    'InvalidArgument',
    `${field} ${quoteName(value)} cannot name a directory; use letters, digits, ".", "_" and "-"`,
  );
}

/**
 * Makes the directory (mode 0700) unless it is there.
 * @throws VmError FailedPrecondition when the root file system holds another VM's state: it came with the image, or
 * this node's key was replaced, and then a fresh disk would silently hide the guest's data.
 */
export function ensureStateDirectory(host: Host, state: StateDirectory): void {
  if (state.hostileRoot) refuseForeignState(host, state);
  const info = host.inspect(state.path);
  if (info === undefined && state.foreign === true) {
    throw new VmError(
      'FailedPrecondition',
      `the volume "${state.path}" for the root disk is not there; find out why it is not mounted`,
    );
  }
  if (info === undefined) {
    host.makeDir(state.path, 0o700);
    for (let path = parentOf(state.path); path.length >= state.root.length; path = parentOf(path))
      syncDirectory(host, path);
    return;
  }
  if (info.kind !== 'directory') {
    throw new VmError(
      'FailedPrecondition',
      `"${state.path}" is a ${info.kind} where the VM’s disks belong; remove it`,
    );
  }
}

function refuseForeignState(host: Host, { path, root }: StateDirectory): void {
  const own = path.slice(root.length + 1);
  const foreign = host.listDir(root).find((name) => name.startsWith(RESERVED) && name !== own);
  if (foreign === undefined) return;
  throw new VmError(
    'FailedPrecondition',
    `${quoteName(`/${foreign}`)} in the container’s root file system is not this VM’s: names with "${RESERVED}" are kept for disks, so use an image without them, or restore the node.key this node had when it made the disk`,
  );
}
