import { VmError } from '../core/errors.ts';
import type { VmSpec } from '../core/vm-spec.ts';
import type { OwnedFd } from '../host/host.ts';
import { errnoName } from '../host/linux-errno.ts';
import type { FdRole } from '../qemu/plan-fds.ts';
import type { RootDisk } from '../qemu/qemu-input.ts';
import { renderBaseName } from '../storage/base-identity.ts';
import { claimDisk } from '../storage/claim-disk.ts';
import { enterDisks } from '../storage/disk-gate.ts';
import type { ImageDisk } from '../storage/image-disk.ts';
import {
  adoptRootDevice,
  type DevicePlace,
  ensureRootDevice,
  openRootDevice,
} from '../storage/root-device.ts';
import { ensureOverlay, type RootDiskPlan } from '../storage/root-disk.ts';
import { planStateDirectory } from '../storage/state-directory.ts';
import { describeHolder } from './all-records.ts';
import type { MachineDeps, MachineRequest } from './machine-request.ts';
import type { VmRecord } from './record.ts';
import type { RootfsMount } from './rootfs-mount.ts';

/** The VM's root disk, open and claimed; whoever asked for it closes the descriptors. */
export interface RootFiles {
  readonly fds: readonly (readonly [FdRole, OwnedFd])[];
  readonly disk: RootDisk;
  /** For people, and what garbage collection looks for in records. */
  readonly path: string;
  /** What the user should know, a sentence each. */
  readonly notes: readonly string[];
}

/** Changes the VM's record, before what it tells of is done. */
export type Recording = (change: Partial<VmRecord>) => void;

/** Opens the root disk where the spec wants it, making it if need be. @throws VmError with one sentence. */
export async function openRootDisk(
  deps: MachineDeps,
  request: MachineRequest,
  { plan, image }: { readonly plan: RootDiskPlan; readonly image: ImageDisk },
  record: Recording,
  signal: AbortSignal,
): Promise<RootFiles> {
  const { rootPlace } = request.spec;
  if (rootPlace.kind === 'device') return await openDevice(deps, request, rootPlace, image, record, signal);
  return await openFile(deps, request, { plan, image }, record, signal);
}

async function openFile(
  { host, native }: MachineDeps,
  { spec, config, rootfs }: MachineRequest,
  { plan, image }: { readonly plan: RootDiskPlan; readonly image: ImageDisk },
  record: Recording,
  signal: AbortSignal,
): Promise<RootFiles> {
  // A bare container's snapshot holds its image as long as it holds the disk, and goes with it.
  const kept = spec.owner.kind === 'pod';
  const { dataDir, keepBase: mode } = config;
  using _gate = kept ? enterDisks(host, native, dataDir) : undefined;
  record({ rootDisk: plan.overlay });
  const holder = (): string | undefined => describeHolder(host, config.stateDir, plan.overlay);
  const disk = await ensureOverlay(host, plan, image, {
    rootDiskBytes: spec.rootDiskBytes,
    direct: false,
    qemuImg: config.qemuImg,
    claim: (overlay) => claimDisk(native, overlay, plan.overlay, holder),
    ...(kept && { bases: { directory: `${dataDir}/bases`, mode, layers: imageLayers(rootfs.mounts) } }),
    signal,
  }).catch((error: unknown) => {
    throw writableNeeded(error, spec) ?? error;
  });
  const { overlay, base, made, notes } = disk;
  const files: RootFiles = {
    fds: [
      ['root-overlay', overlay],
      ['root-base', base],
    ],
    disk: { format: 'qcow2', base: { format: made.format }, cache: 'writeback' },
    path: plan.overlay,
    notes,
  };
  if (!kept || spec.rootPlace.kind !== 'volume') return files;
  try {
    referBase({ host }, { spec, config }, renderBaseName(made.identity));
    return files;
  } catch (error) {
    for (const [, file] of files.fds) file[Symbol.dispose]();
    throw error;
  }
}

/** Name of the file that says which base a pod's disk on a volume needs. */
export const BASE_REFERENCE = 'base';

/**
 * A disk on a volume is out of garbage collection's sight, so the pod's own directory tells which base it needs, for as
 * long as the pod is there.
 */
function referBase(
  { host }: Pick<MachineDeps, 'host'>,
  { spec, config }: Pick<MachineRequest, 'spec' | 'config'>,
  baseName: string,
): void {
  const place = {
    bundleRootfs: '',
    dataDir: config.dataDir,
    id: spec.id,
    namespace: spec.namespace,
    nodeKey: '',
  };
  const { path } = planStateDirectory(spec.owner, place);
  const file = `${path}/${BASE_REFERENCE}`;
  if (host.inspect(file)?.kind === 'file' && host.readText(file) === `${baseName}\n`) return;
  host.makeDir(path, 0o700);
  host.replaceFile(file, `${baseName}\n`, 0o600);
}

async function openDevice(
  { host, log }: MachineDeps,
  { spec, config }: MachineRequest,
  place: DevicePlace,
  image: ImageDisk,
  record: Recording,
  signal: AbortSignal,
): Promise<RootFiles> {
  const device = openRootDevice(host, place);
  using open = new DisposableStack();
  open.use(device.fd);
  record({ rootDisk: device.node });
  let told = -1;
  const onProgress = (done: number, total: number): void => {
    const percent = Math.floor((100 * done) / Math.max(1, total));
    if (percent === told) return;
    told = percent;
    log.info('filling the root disk from the image', { id: spec.id, device: device.node, percent });
    record({ progress: percent === 100 ? undefined : `filling root disk, ${percent} %` });
  };
  const part =
    place.fill === 'never'
      ? adoptRootDevice(host, device)
      : await ensureRootDevice(host, device, image, {
          rootDiskBytes: spec.rootDiskBytes,
          qemuImg: config.qemuImg,
          signal,
          onProgress,
        });
  open.move();
  return {
    fds: [['root-device', device.fd]],
    disk: { format: 'raw', offset: part.offset, size: part.size },
    path: device.node,
    notes: [],
  };
}

/** Host directories that a snapshot shows on top of each other. Source: overlayfs.rst, "lowerdir" and "upperdir". */
export function imageLayers(mounts: readonly RootfsMount[]): string[] {
  const [mount] = mounts;
  if (mount === undefined || mounts.length > 1 || mount.target !== '') return [];
  if (mount.type === 'bind') return [mount.source];
  if (mount.type !== 'overlay') return [];
  const option = (name: string): string[] =>
    mount.options
      .filter((text) => text.startsWith(`${name}=`))
      .flatMap((text) => text.slice(name.length + 1).split(/(?<!\\):/))
      .map((path) => path.replaceAll('\\:', ':'));
  return [...option('upperdir'), ...option('lowerdir')].filter((path) => path.startsWith('/'));
}

/** A bare container's disk is kept in its root file system, which somebody may have made read-only. */
function writableNeeded(cause: unknown, { id, owner, rootPlace }: VmSpec): VmError | undefined {
  if (errnoName(cause) !== 'EROFS') return undefined;
  if (rootPlace.kind === 'volume') {
    return new VmError(
      'FailedPrecondition',
      `the volume "${rootPlace.directory}" is read-only, but the root disk is to be kept on it; give a writable one`,
      { cause },
    );
  }
  if (owner.kind !== 'container') return undefined;
  return new VmError(
    'FailedPrecondition',
    `the root file system of container "${id}" is read-only, but what the guest writes is kept in it; give the container a writable one`,
    { cause },
  );
}
