import { ANNOTATION_PREFIX } from '../core/annotations.ts';
import { VmError } from '../core/errors.ts';
import type { BootSource, VmSpec } from '../core/vm-spec.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import { errnoName } from '../host/linux-errno.ts';
import type { Native } from '../host/native.ts';
import { ownFd } from '../host/owned-fd.ts';
import type { FdRole } from '../qemu/plan-fds.ts';
import type { RootDisk } from '../qemu/qemu-input.ts';
import { findImageDisk } from '../storage/image-disk.ts';
import { expectBootable } from '../storage/image-format.ts';
import { quoteName } from '../storage/image-file.ts';
import { openImageInitrd, openImageKernel } from '../storage/kernel-image.ts';
import { readNodeKey } from '../storage/node-key.ts';
import { ensureNvram } from '../storage/nvram.ts';
import { ensureOverlay, planRootDisk } from '../storage/root-disk.ts';
import type { MachineRequest } from './machine-request.ts';
import { mountRootfs } from './rootfs-mount.ts';

/** The files a VM boots from, open, by their part in QEMU's plan. Disposing closes them. */
export interface BootFiles extends Disposable {
  readonly fds: ReadonlyMap<FdRole, number>;
  readonly disk: RootDisk | undefined;
  /** For people; undefined for a VM without a disk. */
  readonly rootDiskPath: string | undefined;
}

/**
 * Opens the image's disk or kernel, the VM's own overlay and its UEFI variables. The container's root file system is
 * mounted for just that long: QEMU gets descriptors, so no mount outlives this call.
 */
export async function openBootFiles(
  { host, native }: { host: Host; native: Native },
  { spec, config, rootfs }: MachineRequest,
  signal: AbortSignal,
): Promise<BootFiles> {
  using open = new DisposableStack();
  const fds = new Map<FdRole, number>();
  const keep = (role: FdRole, file: OwnedFd): void => void fds.set(role, open.use(file).fd);

  using _mounted = mountRootfs(native, rootfs);
  const plan = planRootDisk(spec.owner, {
    bundleRootfs: rootfs.path,
    dataDir: config.dataDir,
    id: spec.id,
    namespace: spec.namespace,
    nodeKey: await readNodeKey(host, config.dataDir),
  });
  const { boot } = spec;
  const image = findImageDisk(host, rootfs.path, boot.kind === 'kernel' ? boot.disk : 'required');
  if (image !== undefined) {
    open.use(image.fd);
    if (boot.kind === 'disk') expectBootable(image, quoteName(image.path));
    const { rootDiskBytes } = spec;
    const { qemuImg } = config;
    const disk = await ensureOverlay(host, plan, image, {
      rootDiskBytes,
      direct: false,
      qemuImg,
      signal,
    }).catch((error: unknown) => {
      throw writableNeeded(error, spec) ?? error;
    });
    keep('root-overlay', disk.overlay);
    keep('root-base', disk.base);
  }
  if (boot.kind === 'kernel') openKernel({ host, native }, rootfs.path, boot, keep);
  if (spec.firmware === 'uefi')
    keep('firmware-vars', await ensureNvram(host, plan, config.firmware.uefiVars));

  const files = open.move();
  return {
    fds,
    disk:
      image === undefined
        ? undefined
        : { format: 'qcow2', base: { format: image.format }, cache: 'writeback' },
    rootDiskPath: image === undefined ? undefined : plan.overlay,
    [Symbol.dispose]: () => files.dispose(),
  };
}

/** A bare container's disk is kept in its root file system, which somebody may have made read-only. */
function writableNeeded(cause: unknown, { id, owner }: VmSpec): VmError | undefined {
  if (errnoName(cause) !== 'EROFS' || owner.kind !== 'container') return undefined;
  return new VmError(
    'FailedPrecondition',
    `the root file system of container "${id}" is read-only, but what the guest writes is kept in it; give the container a writable one`,
    { cause },
  );
}

function openKernel(
  deps: { host: Host; native: Native },
  rootfs: string,
  boot: Extract<BootSource, { kind: 'kernel' }>,
  keep: (role: FdRole, file: OwnedFd) => void,
): void {
  const { host } = deps;
  const { kernel, initrd } = boot;
  keep(
    'kernel',
    readableByQemu(
      deps,
      asked('kernel', () => openImageKernel(host, rootfs, kernel)),
    ),
  );
  if (initrd === undefined) return;
  keep(
    'initrd',
    readableByQemu(
      deps,
      asked('initrd', () => openImageInitrd(host, rootfs, initrd)),
    ),
  );
}

/** Whoever reads the refusal has to know what to change. */
function asked(key: 'kernel' | 'initrd', open: () => OwnedFd): OwnedFd {
  try {
    return open();
  } catch (error) {
    throw VmError.from(error, `annotation ${ANNOTATION_PREFIX}${key}`);
  }
}

const OTHERS_READ = 0o004;
const COPY_BYTES = 1 << 20;

/**
 * QEMU opens kernel and initrd anew through /proc/self/fd, under its own user. Distributions keep kernels readable for
 * root only, so such a file is given as a copy in memory.
 */
function readableByQemu({ host, native }: { host: Host; native: Native }, file: OwnedFd): OwnedFd {
  if ((host.inspectFd(file.fd).mode & OTHERS_READ) !== 0) return file;
  using original = file;
  using copy = new DisposableStack();
  const memory = copy.use(ownFd(native.memfdCreate('vmshim-boot', 0)));
  for (let at = 0; ;) {
    const chunk = host.readBytes(original.fd, at, COPY_BYTES);
    if (chunk.length === 0) break;
    host.writeBytes(memory.fd, at, chunk);
    at += chunk.length;
  }
  copy.move();
  return memory;
}
