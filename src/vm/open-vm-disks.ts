import { describeSource } from '../core/describe-disk.ts';
import type { DiskSource, DiskSpec } from '../core/disk-spec.ts';
import { chooseAio, hasIoUring } from '../qemu/disk-aio.ts';
import type { Volume, VolumeRow } from '../qemu/qemu-input.ts';
import { readNodeKey } from '../storage/node-key.ts';
import { planStateDirectory, type StateDirectory } from '../storage/state-directory.ts';
import { emptyDiskPath } from '../storage/volumes/empty-disk.ts';
import type { OpenDisk } from '../storage/volumes/open-disk.ts';
import { openDisks } from '../storage/volumes/open-disks.ts';
import { diskHolder } from './disk-holder.ts';
import type { MachineDeps, MachineRequest } from './machine-request.ts';
import type { RecordedDisk } from './record.ts';
import { mountRootfs } from './rootfs-mount.ts';
import type { DiskFacts, VmDisks } from './vm-disks.ts';

/**
 * Opens the pod's disks. Empty disks of a bare container lie in its root file system, which is mounted for that long.
 * @param record is told of every disk before it is made, and again when it is known what it is.
 * @throws VmError naming the disk.
 */
export async function openVmDisks(
  { host, native }: Pick<MachineDeps, 'host' | 'native'>,
  { spec, config, rootfs }: MachineRequest,
  runDir: string,
  record: (disks: readonly RecordedDisk[]) => void,
  signal: AbortSignal,
): Promise<VmDisks> {
  const hasEmpty = spec.disks.some(({ source }) => source.kind === 'empty');
  using _mounted = hasEmpty && spec.owner.kind === 'container' ? mountRootfs(native, rootfs) : undefined;
  const state = planStateDirectory(spec.owner, {
    bundleRootfs: rootfs.path,
    dataDir: config.dataDir,
    id: spec.id,
    namespace: spec.namespace,
    nodeKey: await readNodeKey(host, config.dataDir),
  });
  record(spec.disks.map((disk) => planned(disk, state, runDir)));
  using stack = new DisposableStack();
  const open = stack.use(
    await openDisks({ host, native }, spec.disks, {
      state,
      runDir,
      allowed: config.hostDisks,
      holder: (identity) => diskHolder(host, config.stateDir, identity, runDir),
    }),
  );
  record(
    open.disks.map(({ spec: { name, source }, path, identity }) => ({
      name,
      source: describeSource(source),
      path,
      identity,
    })),
  );
  const { stateDir, qemuImg } = config;
  const ring = open.disks.length > 0 && (await hasIoUring(host, { qemuImg, stateDir, signal }));
  const volumes = open.disks.map((disk) => toVolume(disk, ring));
  const { disks, warnings } = open;
  const files = stack.move();
  return {
    volumes,
    fds: new Map(disks.map(({ spec: { name }, fd }) => [`volume-${name}`, fd.fd])),
    facts: disks.map((disk) => facts(disk, toVolume(disk, ring))),
    warnings,
    [Symbol.dispose]: () => files.dispose(),
  };
}

function planned({ name, source }: DiskSpec, state: StateDirectory, runDir: string): RecordedDisk {
  const made =
    source.kind === 'empty'
      ? emptyDiskPath(state, name)
      : source.kind === 'files'
        ? `${runDir}/disk-${name}.img`
        : undefined;
  return { name, source: describeSource(source), path: made, identity: undefined };
}

function toVolume({ spec, kind, readOnly, direct, blockSize }: OpenDisk, ring: boolean): Volume {
  const { name, serial, device, bus, discard, boot } = spec;
  const backend = kind === 'file' ? 'file' : 'host_device';
  return {
    name,
    serial,
    row: rowOf(spec.source),
    device,
    bus,
    backend,
    readOnly,
    cache: direct ? 'none' : 'writeback',
    aio: chooseAio(ring, backend, direct),
    discard,
    blockSize,
    boot,
  };
}

function rowOf({ kind }: DiskSource): VolumeRow {
  switch (kind) {
    case 'device':
      return 'device';
    case 'file':
    case 'files':
      return 'mount';
    case 'empty':
    case 'host':
    case 'rbd':
      return 'own';
  }
}

function facts({ spec, size, path }: OpenDisk, { cache, aio, readOnly }: Volume): DiskFacts {
  const { name, serial, source, bus, device } = spec;
  return {
    name,
    serial,
    source: describeSource(source),
    path,
    size,
    device: `${bus} ${device}`,
    readOnly,
    cache,
    aio,
  };
}
