import { VmError } from '../../core/errors.ts';
import type { DiskSpec } from '../../core/disk-spec.ts';
import type { Host } from '../../host/host.ts';
import { quoteName } from '../image-file.ts';
import { openDirectoryBelow } from '../open-directory.ts';
import { parentOf } from '../publish-file.ts';
import { openDevice } from './open-device.ts';
import type { OpenDisk } from './open-disk.ts';
import { inspectImage, openImage } from './open-image.ts';

export interface HostDiskRules {
  /** `host_disks` of the configuration. */
  readonly allowed: readonly string[];
  /** Which VM has the disk of that identity, for people. */
  readonly holder: (identity: string) => string | undefined;
}

/**
 * Opens a file or block device of the node, below a directory that its administrator allows or allowed by its own path.
 * Below an allowed directory no link is followed, since others may be allowed to write there.
 * @throws VmError PermissionDenied for what is not allowed; as `openImage` and `openDevice` for the rest.
 */
export function openHostDisk(
  host: Host,
  spec: DiskSpec,
  path: string,
  { allowed, holder }: HostDiskRules,
): OpenDisk {
  const root = allowed.find((one) => path === one || path.startsWith(`${one}/`));
  if (root === undefined) {
    const what = allowed.length === 0 ? 'allows none' : `allows ${allowed.map(quoteName).join(', ')}`;
    throw new VmError(
      'PermissionDenied',
      `disk "${spec.name}" is ${quoteName(path)} of the node, but this node ${what}; have its administrator add the path to host_disks in the configuration`,
    );
  }
  // The last component of an allowed path itself is looked at like what lies below.
  const from = path === root ? parentOf(root) : root;
  const parts = path.slice(from === '/' ? 1 : from.length + 1).split('/');
  const name = parts.pop() ?? '';
  using directory = openDirectoryBelow(host, from, parts, (kind, reached) => {
    const shown = quoteName(from === '/' ? reached : from + reached);
    return new VmError(
      kind === undefined ? 'NotFound' : 'InvalidArgument',
      `disk "${spec.name}": ${shown} of the node is ${kind === undefined ? 'missing' : `a ${kind}`}; give a path of directories`,
    );
  });
  const place = { directory, name, path };
  const info = inspectImage(host, place);
  return info?.kind === 'block-device'
    ? openDevice(host, spec, info.device, holder)
    : openImage(host, spec, place);
}
