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
import { type OpenRbd, openRbd, rbdIdentity, type RbdRules } from './open-rbd.ts';
import { type HostDiskRules, openHostDisk } from './open-host-disk.ts';

export interface DiskPlaces extends HostDiskRules, RbdRules {
  /** Where empty disks are kept. */
  readonly state: StateDirectory;
  /** Where copies of files go; gone with the VM. */
  readonly runDir: string;
}

/** All disks of a VM beside its root disk, open. Disposing closes them. */
export interface OpenDisks extends Disposable {
  readonly disks: readonly (OpenDisk | OpenRbd)[];
  /** Sentences about volumes that the guest does not get. */
  readonly warnings: readonly string[];
}

/**
 * Opens what the pod's disks are made of, and makes what has to be made.
 * @throws VmError naming the disk, before QEMU is started.
 */
export async function openDisks(
  deps: { readonly host: Host; readonly native: Pick<Native, 'ofdLocked' | 'flock' | 'memfdCreate'> },
  specs: readonly DiskSpec[],
  places: DiskPlaces,
): Promise<OpenDisks> {
  using stack = new DisposableStack();
  const disks: (OpenDisk | OpenRbd)[] = [];
  const warnings: string[] = [];
  for (const spec of specs) {
    const { source } = spec;
    const twin =
      source.kind === 'rbd' ? disks.find(({ identity }) => identity === rbdIdentity(source)) : undefined;
    // Its own lock would stand in the way, as if it were another VM's.
    if (twin !== undefined) throw sameDisk(twin.spec, spec);
    const disk = await openOne(deps, spec, places);
    if (disk === undefined) {
      warnings.push(notGiven(spec));
      continue;
    }
    stack.use(disk.fd);
    if (disk.kind === 'rbd') {
      stack.use(disk.conf);
      stack.use(disk.key);
      disks.push(disk);
      continue;
    }
    const other = disks.find(({ identity }) => identity === disk.identity);
    if (other !== undefined) throw sameDisk(other.spec, spec);
    expectUnused(deps.native, disk, () => places.holder(disk.identity));
    disks.push(disk);
  }
  expectDistinct(disks.map(({ spec }) => spec));
  const files = stack.move();
  return { disks, warnings, [Symbol.dispose]: () => files.dispose() };
}

async function openOne(
  { host, native }: Parameters<typeof openDisks>[0],
  spec: DiskSpec,
  places: DiskPlaces,
): Promise<OpenDisk | OpenRbd | undefined> {
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
      return openRbd(host, native, spec, source, places);
  }
}

function sameDisk(one: DiskSpec, other: DiskSpec): VmError {
  return new VmError(
    'InvalidArgument',
    `disks "${one.name}" (${describeSource(one.source)}) and "${other.name}" (${describeSource(other.source)}) are one and the same; mount the volume once`,
  );
}

function notGiven({ source }: DiskSpec): string {
  const path = source.kind === 'file' ? source.mount.destination : describeSource(source);
  return `the guest does not see the volume at ${path}: it holds no disk.img; name it in vmshim.io/disks, or remove it from the pod`;
}
