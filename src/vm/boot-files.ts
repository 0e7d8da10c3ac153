import { ANNOTATION_PREFIX } from '../core/annotations.ts';
import { VmError } from '../core/errors.ts';
import type { BootSource, RootPlace } from '../core/vm-spec.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import type { Native } from '../host/native.ts';
import { ownFd } from '../host/owned-fd.ts';
import type { FdRole } from '../qemu/plan-fds.ts';
import type { RootDisk } from '../qemu/qemu-input.ts';
import { findImageDisk } from '../storage/image-disk.ts';
import { expectBootable } from '../storage/image-format.ts';
import { quoteName } from '../storage/image-file.ts';
import { openImageInitrd, openImageKernel } from '../storage/kernel-image.ts';
import { readNodeKey } from '../storage/node-key.ts';
import { ensureNvram, planNvram } from '../storage/nvram.ts';
import { planRootDisk } from '../storage/root-disk.ts';
import type { MachineDeps, MachineRequest } from './machine-request.ts';
import { openRootDisk, type Recording, type RootFiles } from './root-files.ts';
import { mountRootfs } from './rootfs-mount.ts';

/** The files a VM boots from, open, by their part in QEMU's plan. Disposing closes them. */
export interface BootFiles extends Disposable {
  readonly fds: ReadonlyMap<FdRole, number>;
  readonly disk: RootDisk | undefined;
  /** For people; undefined for a VM without a disk. */
  readonly rootDiskPath: string | undefined;
  /** What the user should know, a sentence each. */
  readonly notes: readonly string[];
}

/**
 * Opens the image's disk or kernel, the VM's own overlay and its UEFI variables. The container's root file system is
 * mounted for just that long: QEMU gets descriptors, so no mount outlives this call.
 * @param record takes what is going to be made, before it is.
 */
export async function openBootFiles(
  deps: MachineDeps,
  request: MachineRequest,
  record: Recording,
  signal: AbortSignal,
): Promise<BootFiles> {
  const { host, native } = deps;
  const { spec, config, rootfs } = request;
  using open = new DisposableStack();
  const fds = new Map<FdRole, number>();
  const keep = (role: FdRole, file: OwnedFd): void => void fds.set(role, open.use(file).fd);

  using _mounted = mountRootfs(native, rootfs);
  const place = {
    bundleRootfs: rootfs.path,
    dataDir: config.dataDir,
    id: spec.id,
    namespace: spec.namespace,
    nodeKey: await readNodeKey(host, config.dataDir),
  };
  const plan = planRootDisk(spec.owner, place, spec.rootPlace);
  const { boot } = spec;
  const image = findImageDisk(host, rootfs.path, boot.kind === 'kernel' ? boot.disk : 'required');
  let root: RootFiles | undefined;
  if (image !== undefined) {
    open.use(image.fd);
    if (boot.kind === 'disk' && bootsFrom(spec.rootPlace) === 'image')
      expectBootable(image, quoteName(image.path));
    root = await openRootDisk(deps, request, { plan, image }, record, signal);
    for (const [role, file] of root.fds) keep(role, file);
  }
  if (boot.kind === 'kernel') openKernel({ host, native }, rootfs.path, boot, keep);
  if (spec.firmware !== 'bios') {
    const { uefiVars, uefiSecureVars } = config.firmware;
    const template = spec.firmware === 'uefi' ? uefiVars : uefiSecureVars;
    keep('firmware-vars', await ensureNvram(host, planNvram(plan, spec.firmware), template));
  }

  const files = open.move();
  return {
    fds,
    disk: root?.disk,
    rootDiskPath: root?.path,
    notes: root?.notes ?? [],
    [Symbol.dispose]: () => files.dispose(),
  };
}

/** What the firmware meets: a volume that is booted as it is may hold anything, whatever the image is. */
function bootsFrom(place: RootPlace): 'image' | 'volume' {
  return place.kind === 'device' && place.fill === 'never' ? 'volume' : 'image';
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
