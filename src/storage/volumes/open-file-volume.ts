import { describeSource } from '../../core/describe-disk.ts';
import type { DiskSpec, FileVolume } from '../../core/disk-spec.ts';
import { VmError } from '../../core/errors.ts';
import type { Host } from '../../host/host.ts';
import { openFlags } from '../../host/open-flags.ts';
import type { OpenDisk } from './open-disk.ts';
import { inspectImage, openImage } from './open-image.ts';

const { O_PATH, O_DIRECTORY, O_NOFOLLOW } = openFlags;

/**
 * Opens the disk image in a volume, or the volume that is one.
 * @returns undefined for a volume without, unless the pod asked for it.
 * @throws VmError NotFound, or as `openImage`.
 */
export function openFileVolume(host: Host, spec: DiskSpec, volume: FileVolume): OpenDisk | undefined {
  const { mount, file, asked } = volume;
  const kind = host.inspect(mount.source)?.kind;
  // A mount of a single file is a disk only if the pod says so.
  if (kind !== 'directory') {
    if (!asked) return undefined;
    if (kind === undefined || kind !== 'file') {
      throw new VmError(
        kind === undefined ? 'NotFound' : 'InvalidArgument',
        `disk "${spec.name}" (${describeSource(volume)}): the volume is ${kind === undefined ? 'missing on the node' : `a ${kind}`}; mount a directory with a disk image`,
      );
    }
    const cut = mount.source.lastIndexOf('/');
    using directory = host.open(mount.source.slice(0, cut) || '/', O_PATH | O_DIRECTORY | O_NOFOLLOW);
    return openImage(host, spec, { directory, name: mount.source.slice(cut + 1), path: mount.destination });
  }
  using directory = host.open(mount.source, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  const place = { directory, name: file, path: `${mount.destination}/${file}` };
  if (!asked && inspectImage(host, place) === undefined) return undefined;
  return openImage(host, spec, place);
}
