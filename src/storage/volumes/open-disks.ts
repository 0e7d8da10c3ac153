import { describeSource } from '../../core/describe-disk.ts';
import type { DiskSpec } from '../../core/disk-spec.ts';
import { VmError } from '../../core/errors.ts';
import { expectDistinct } from '../../core/parse-disks.ts';
import type { Host } from '../../host/host.ts';
import type { Native } from '../../host/native.ts';
import type { StateDirectory } from '../state-directory.ts';
import { openEmptyDisk } from './empty-disk.ts';
import { expectUnused } from './expect-unused.ts';
import { makeFilesDisk } from './files-disk.ts';
import { openDevice } from './open-device.ts';
import type { OpenDisk } from './open-disk.ts';
import { openFileVolume } from './open-file-volume.ts';
import { type HostDiskRules, openHostDisk } from './open-host-disk.ts';

export interface DiskPlaces extends HostDiskRules {
  /** Where empty disks are kept. */
  readonly state: StateDirectory;
  /** Where copies of files go; gone with the VM. */
  readonly runDir: string;
}

/** All disks of a VM beside its root disk, open. Disposing closes them. */
export interface OpenDisks extends Disposable {
  readonly disks: readonly OpenDisk[];
  /** Sentences about volumes that the guest does not get. */
  readonly warnings: readonly string[];
}

/**
 * Opens what the pod's disks are made of, and makes what has to be made.
 * @throws VmError naming the disk, before QEMU is started.
 */
export async function openDisks(
  { host, native }: { readonly host: Host; readonly native: Pick<Native, 'ofdLocked'> },
  specs: readonly DiskSpec[],
  places: DiskPlaces,
): Promise<OpenDisks> {
  using stack = new DisposableStack();
  const disks: OpenDisk[] = [];
  const warnings: string[] = [];
  for (const spec of specs) {
    const disk = await openOne(host, spec, places);
    if (disk === undefined) {
      warnings.push(notGiven(spec));
      continue;
    }
    stack.use(disk.fd);
    const other = disks.find(({ identity }) => identity === disk.identity);
    if (other !== undefined) {
      throw new VmError(
        'InvalidArgument',
        `disks "${other.spec.name}" (${describeSource(other.spec.source)}) and "${spec.name}" (${describeSource(spec.source)}) are one and the same; mount the volume once`,
      );
    }
    expectUnused(native, disk, () => places.holder(disk.identity));
    disks.push(disk);
  }
  expectDistinct(disks.map(({ spec }) => spec));
  const files = stack.move();
  return { disks, warnings, [Symbol.dispose]: () => files.dispose() };
}

async function openOne(host: Host, spec: DiskSpec, places: DiskPlaces): Promise<OpenDisk | undefined> {
  const { source } = spec;
  switch (source.kind) {
    case 'device':
      return openDevice(host, spec, source, places.holder);
    case 'file':
      return openFileVolume(host, spec, source);
    case 'files':
      return makeFilesDisk(host, spec, source, places.runDir);
    case 'empty':
      return await openEmptyDisk(host, spec, source.bytes, places.state);
    case 'host':
      return openHostDisk(host, spec, source.path, places);
    case 'rbd':
      throw new VmError(
        'Unimplemented',
        `disk "${spec.name}" is ${describeSource(source)}, which QEMU would read over the network, but it runs without one; have Ceph’s CSI driver attach the image to the node as a block volume`,
      );
  }
}

function notGiven({ source }: DiskSpec): string {
  const path = source.kind === 'file' ? source.mount.destination : describeSource(source);
  return `the guest does not see the volume at ${path}: it holds no disk.img; name it in vmshim.io/disks, or remove it from the pod`;
}
