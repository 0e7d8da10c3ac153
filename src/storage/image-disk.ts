import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { type DiskImage, readDiskImage } from './disk-image.ts';
import { openFileIn, openImageDirectory, openImageFile, quoteName } from './image-file.ts';
import { fdPath } from './open-directory.ts';

/** The one disk of an image. */
export interface ImageDisk extends DiskImage {
  /** Inside the image, such as `/disk/debian.qcow2`. */
  readonly path: string;
  /** What the image's `/disk.sha256` says (our packer writes it), or undefined. Believed only to tell images apart. */
  readonly checksum: string | undefined;
}

const DISK_DIRECTORY = '/disk';
export const CHECKSUM_FILE = '/disk.sha256';
const CHECKSUM_BYTES = 4096;
const REMEDY = 'an image for a VM has exactly one qcow2 or raw file in /disk';
/** Names shown when there are several. */
const SHOWN = 5;

/**
 * Finds the image's single disk, by the rules of KubeVirt's containerDisks: one file in `/disk`, whatever its name.
 * Entries that begin with a dot and `lost+found` do not count: tools leave them, nobody boots them.
 * @param need `optional` for a kernel boot, which may do without: then no `/disk`, or an empty one, is undefined.
 * @throws VmError InvalidArgument for none, several, a symbolic link, a device, or an image that is refused.
 */
export function findImageDisk(host: Host, rootfs: string, need: 'required'): ImageDisk;
export function findImageDisk(
  host: Host,
  rootfs: string,
  need: 'required' | 'optional',
): ImageDisk | undefined;
export function findImageDisk(
  host: Host,
  rootfs: string,
  need: 'required' | 'optional',
): ImageDisk | undefined {
  if (host.inspect(`${rootfs}${DISK_DIRECTORY}`) === undefined) {
    if (need === 'optional') return undefined;
    throw new VmError(
      'InvalidArgument',
      `the image has no ${DISK_DIRECTORY} directory, so no disk to boot; ${REMEDY}`,
    );
  }
  using directory = openImageDirectory(host, rootfs, DISK_DIRECTORY);
  const names = host
    .listDir(fdPath(directory, ''))
    .filter((name) => !name.startsWith('.') && name !== 'lost+found');
  const [name] = names;
  if (name === undefined) {
    if (need === 'optional') return undefined;
    throw new VmError(
      'InvalidArgument',
      `the image’s ${DISK_DIRECTORY} directory is empty, so there is no disk to boot; ${REMEDY}`,
    );
  }
  if (names.length > 1) {
    const more = names.length > SHOWN ? ` and ${names.length - SHOWN} more` : '';
    const list = names.slice(0, SHOWN).map(quoteName).join(', ');
    throw new VmError(
      'InvalidArgument',
      `the image’s ${DISK_DIRECTORY} holds ${names.length} entries (${list}${more}); ${REMEDY}`,
    );
  }
  const path = `${DISK_DIRECTORY}/${name}`;
  const fd = openFileIn(host, directory, name, path);
  try {
    return { path, ...readDiskImage(host, fd, quoteName(path)), checksum: readChecksum(host, rootfs) };
  } catch (error) {
    fd[Symbol.dispose]();
    throw error;
  }
}

function readChecksum(host: Host, rootfs: string): string | undefined {
  if (host.inspect(`${rootfs}${CHECKSUM_FILE}`)?.kind !== 'file') return undefined;
  using file = openImageFile(host, rootfs, CHECKSUM_FILE);
  return host.readBytes(file.fd, 0, CHECKSUM_BYTES).toString('latin1');
}
