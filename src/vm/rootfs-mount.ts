import { VmError } from '../core/errors.ts';
import type { Native } from '../host/native.ts';

/** One entry of CreateTaskRequest.rootfs: what containerd's snapshotter wants mounted. */
export interface RootfsMount {
  readonly type: string;
  readonly source: string;
  readonly target: string;
  readonly options: readonly string[];
}

/** A container's root file system: where it is, and what has to be mounted there first (nothing for a ready directory). */
export interface Rootfs {
  readonly path: string;
  readonly mounts: readonly RootfsMount[];
}

/** mount(2) flags by option word; the rest goes to the file system as data. Source: mount(2), mount(8). */
const FLAGS: ReadonlyMap<string, { readonly bit: number; readonly clear?: true }> = new Map([
  ['ro', { bit: 1 }],
  ['rw', { bit: 1, clear: true }],
  ['nosuid', { bit: 2 }],
  ['suid', { bit: 2, clear: true }],
  ['nodev', { bit: 4 }],
  ['dev', { bit: 4, clear: true }],
  ['noexec', { bit: 8 }],
  ['exec', { bit: 8, clear: true }],
  ['sync', { bit: 16 }],
  ['remount', { bit: 32 }],
  ['dirsync', { bit: 128 }],
  ['noatime', { bit: 1024 }],
  ['nodiratime', { bit: 2048 }],
  ['bind', { bit: 4096 }],
  ['rbind', { bit: 4096 | 16384 }],
  ['relatime', { bit: 1 << 21 }],
  ['strictatime', { bit: 1 << 24 }],
  ['defaults', { bit: 0 }],
]);
const MS_BIND = 4096;
const MS_REC = 16384;
const MS_RDONLY = 1;
const MS_REMOUNT = 32;
const MNT_DETACH = 2;
/** mount(2) takes one page of data; overlayfs with many layers can need more. */
const DATA_MAX = 4095;

export interface MountCall {
  readonly type: string;
  readonly source: string;
  readonly target: string;
  readonly flags: number;
  readonly data: string;
}

/**
 * Mount entries as mount(2) calls. A read-only bind needs a second call, since bind ignores MS_RDONLY at first.
 * @throws VmError InvalidArgument for options longer than a page.
 */
export function planMounts(mounts: readonly RootfsMount[], rootfs: string): MountCall[] {
  return mounts.flatMap((mount) => {
    let flags = mount.type === 'bind' ? MS_BIND : 0;
    const data: string[] = [];
    for (const option of mount.options) {
      const known = FLAGS.get(option);
      if (known === undefined) data.push(option);
      else flags = known.clear === true ? flags & ~known.bit : flags | known.bit;
    }
    const text = data.join(',');
    if (Buffer.byteLength(text) > DATA_MAX) {
      throw new VmError(
        'InvalidArgument',
        `rootfs mount of type "${mount.type}" has more options than mount(2) takes; give the image fewer layers`,
      );
    }
    const target = mount.target === '' ? rootfs : `${rootfs}/${mount.target}`;
    const bind = (flags & MS_BIND) !== 0;
    const call: MountCall = {
      type: bind ? 'none' : mount.type,
      source: mount.source,
      target,
      flags,
      data: bind ? '' : text,
    };
    if (!bind || (flags & MS_RDONLY) === 0) return [call];
    return [
      { ...call, flags: flags & (MS_BIND | MS_REC) },
      { ...call, flags: flags | MS_REMOUNT },
    ];
  });
}

/**
 * Mounts the container's root file system for as long as its files are being opened. QEMU keeps descriptors, so the
 * mount is detached again before the guest runs and nothing is left to leak.
 */
export function mountRootfs(native: Native, { path: rootfs, mounts }: Rootfs): Disposable {
  let mounted = 0;
  const release = (): void => {
    for (; mounted > 0; mounted--) native.umount(rootfs, MNT_DETACH);
  };
  try {
    for (const call of planMounts(mounts, rootfs)) {
      native.mount(call.source, call.target, call.type, call.flags, call.data);
      if ((call.flags & MS_REMOUNT) === 0 && call.target === rootfs) mounted++;
    }
  } catch (error) {
    release();
    throw new VmError('FailedPrecondition', `cannot mount the container's root file system on "${rootfs}"`, {
      cause: error,
    });
  }
  return { [Symbol.dispose]: release };
}

/** Detaches whatever is mounted on a path; nothing mounted is fine. */
export function detachMounts(native: Native, path: string): void {
  for (let depth = 0; depth < 16; depth++) {
    try {
      native.umount(path, MNT_DETACH);
    } catch {
      return;
    }
  }
}
