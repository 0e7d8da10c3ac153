import type { DiskSpec, FilesVolume } from '../../core/disk-spec.ts';
import { sha256 } from '../../core/sha256.ts';
import type { Host } from '../../host/host.ts';
import { fatImage } from '../guest-data/fat-image.ts';
import { fileTree } from '../guest-data/file-tree.ts';
import { isoImage } from '../guest-data/iso-image.ts';
import { writeImage } from '../guest-data/write-image.ts';
import type { OpenDisk } from './open-disk.ts';
import { readFiles } from './read-files.ts';

/**
 * Makes the disk with a volume's files in the VM's volatile directory: they may be secrets, and go with the VM. It shows what
 * the volume holds now; what changes later is seen after the next start.
 * @throws VmError InvalidArgument for what no such disk can hold.
 */
export function makeFilesDisk(host: Host, spec: DiskSpec, volume: FilesVolume, runDir: string): OpenDisk {
  const { mount, format, label } = volume;
  const tree = fileTree(readFiles(host, mount));
  const serial = Number.parseInt(sha256(`${mount.destination}\0${label}`).slice(0, 8), 16);
  const image = format === 'vfat' ? fatImage(tree, { label, serial }) : isoImage(tree, label);
  const path = `${runDir}/disk-${spec.name}.img`;
  const fd = writeImage(host, path, image);
  const { identity } = host.inspectFd(fd.fd);
  const rest = { readOnly: true, direct: false, blockSize: undefined };
  return { spec, fd, kind: 'file', size: image.size, path, identity, ...rest };
}
