import { describeSource } from '../core/describe-disk.ts';
import type { DiskSource, DiskSpec } from '../core/disk-spec.ts';
import { chooseAio, hasIoUring } from '../qemu/disk-aio.ts';
import type { Volume, VolumeRow } from '../qemu/qemu-input.ts';
import { readNodeKey } from '../storage/node-key.ts';
import { planStateDirectory, type StateDirectory } from '../storage/state-directory.ts';
import { emptyDiskPath } from '../storage/volumes/empty-disk.ts';
import type { VolumeFdRole } from '../qemu/plan-fds.ts';
import type { OpenRbd } from '../storage/volumes/open-rbd.ts';
import { VmError } from '../core/errors.ts';
import { explainRbd } from './explain-rbd.ts';
import type { OpenDisk } from '../storage/volumes/open-disk.ts';
import { openDisks } from '../storage/volumes/open-disks.ts';
import { diskHolder } from './disk-holder.ts';
import type { MachineDeps, MachineRequest } from './machine-request.ts';
import type { RecordedDisk } from './record.ts';
import { mountRootfs } from './rootfs-mount.ts';
import { queryNodeSizes } from '../qemu/node-sizes.ts';
import type { DiskFacts, RemoteDisks, VmDisks } from './vm-disks.ts';

/** What QEMU needs besides opening its disks, on the slowest of machines. */
const START_SECONDS = 30;

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
      rbd: config.rbd,
      lockDir: config.stateDir,
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
  const ring =
    open.disks.some(({ kind }) => kind !== 'rbd') && (await hasIoUring(host, { qemuImg, stateDir, signal }));
  const volumes = open.disks.map((disk) => toVolume(disk, ring));
  const { disks, warnings } = open;
  const known = disks.map((disk) => facts(disk, toVolume(disk, ring)));
  const remote = disks.some(({ kind }) => kind === 'rbd')
    ? remoteDisks(known, (config.rbd.timeout + START_SECONDS) * 1000)
    : undefined;
  const files = stack.move();
  return {
    volumes,
    fds: new Map(disks.flatMap(descriptors)),
    facts: known,
    warnings,
    remote,
    explain: (error) =>
      remote !== undefined && VmError.is(error) ? explainRbd(error, volumes, config.rbd.timeout) : error,
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

function remoteDisks(known: readonly DiskFacts[], deadlineMs: number): RemoteDisks {
  return {
    deadlineMs,
    facts: async (qmp, options) => {
      const sizes = await queryNodeSizes(qmp, options);
      return known.map((disk) => ({ ...disk, size: sizes.get(`volume-${disk.name}`) ?? disk.size }));
    },
  };
}

/** In the order of `volumeRoles`. */
function descriptors(disk: OpenDisk | OpenRbd): (readonly [VolumeFdRole, number])[] {
  const { name } = disk.spec;
  const local = [`volume-${name}`, disk.fd.fd] as const;
  if (disk.kind !== 'rbd') return [local];
  return [local, [`rbd-conf-${name}`, disk.conf.fd], [`rbd-key-${name}`, disk.key.fd]];
}

function toVolume(disk: OpenDisk | OpenRbd, ring: boolean): Volume {
  const { spec, kind, readOnly } = disk;
  const { name, serial, device, bus, discard, boot } = spec;
  const common = { name, serial, row: rowOf(spec.source), device, bus, readOnly, discard, boot };
  if (kind === 'rbd') {
    // librbd's cache is the guest's alone and honours its flushes; it is what there is in place of the node's page cache.
    const cache = spec.cache === 'none' ? 'none' : 'writeback';
    return { ...common, backend: 'rbd', rbd: disk.target, cache, blockSize: undefined };
  }
  const { direct, blockSize } = disk;
  const backend = kind === 'file' ? 'file' : 'host_device';
  const cache = direct ? 'none' : 'writeback';
  return { ...common, backend, cache, aio: chooseAio(ring, backend, direct), blockSize };
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

function facts(disk: OpenDisk | OpenRbd, volume: Volume): DiskFacts {
  const { name, serial, source, bus, device } = disk.spec;
  const { cache, readOnly } = volume;
  return {
    name,
    serial,
    source: describeSource(source),
    path: disk.path,
    size: disk.kind === 'rbd' ? 0 : disk.size,
    device: `${bus} ${device}`,
    readOnly,
    cache,
    aio: volume.backend === 'rbd' ? 'librbd' : volume.aio,
  };
}
