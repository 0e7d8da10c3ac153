import { fatImage } from './fat-image.ts';
import { fileTree } from './file-tree.ts';
import type { GuestData } from './guest-data.ts';
import { isoImage } from './iso-image.ts';
import { nocloudFiles } from './nocloud-files.ts';
import { openstackFiles } from './openstack-files.ts';
import type { SparseImage } from './sparse-image.ts';

/** In lower case, as Nova and cloud-init's documentation write them; readers know all lower and all upper case only. */
const CONFIG_DRIVE_LABEL = 'config-2';
const NOCLOUD_LABEL = 'cidata';

/**
 * The whole drive of one guest. Equal data make equal bytes.
 * @throws VmError InvalidArgument for what the drive's file system cannot hold.
 */
export function driveImage(data: GuestData): SparseImage {
  // Tells the volume from another guest's on the same host.
  const serial = Number.parseInt(data.uuid.slice(0, 8), 16);
  switch (data.kind) {
    case 'config-drive':
      return fatImage(fileTree(openstackFiles(data)), { label: CONFIG_DRIVE_LABEL, serial });
    case 'config-drive-iso':
      return isoImage(fileTree(openstackFiles(data)), CONFIG_DRIVE_LABEL);
    case 'nocloud':
      return fatImage(fileTree(nocloudFiles(data)), { label: NOCLOUD_LABEL, serial });
  }
}
