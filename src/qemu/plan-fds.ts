import type { QemuInput, RootDisk, TapNic, Volume } from './qemu-input.ts';

/**
 * What the opener of a descriptor has to give, in words of open(2). Everything is opened by the parent, whose copies
 * must be closed once QEMU runs: image locks belong to the open file description, so a copy kept would keep the lock.
 *
 * - `qmp`, `console`: listening stream sockets (AF_UNIX). Nobody else may accept() on them.
 * - `root-overlay`: O_RDWR on the qcow2 overlay; `root-base`: O_RDONLY on the image below it.
 * - `guest-drive`: O_RDONLY on a raw image.
 * - `root-device`: O_RDWR on a block device.
 * - `volume-NAME`: O_RDWR on a raw image or block device, O_RDONLY where the volume is read-only.
 * - `rbd-conf-NAME`, `rbd-key-NAME`: memfds; opened again through /proc/self/fd like `kernel`. `volume-NAME` of such a disk
 *   is the lock on its image, which is there as long as QEMU is.
 * - `shared-N`: a stream socket (AF_UNIX) that is connected to a virtiofsd.
 * - `kernel`, `initrd`: O_RDONLY. QEMU opens these two again through /proc/self/fd, so QEMU's uid must be allowed to
 *   read the inode (mode 0644, or a memfd); the directories above do not matter.
 * - `firmware-vars`: O_RDWR on the VM's own raw UEFI variable store.
 */
export type FdRole =
  | 'qmp'
  | 'console'
  | 'root-overlay'
  | 'root-base'
  | 'root-device'
  | 'guest-drive'
  | 'kernel'
  | 'initrd'
  | 'firmware-vars'
  | VolumeFdRole
  | SharedFdRole
  | NicFdRole;

/** A disk beside the root disk. */
export type VolumeFdRole = `${'volume' | 'rbd-conf' | 'rbd-key'}-${string}`;

/** The connection to a shared directory's virtiofsd. */
export type SharedFdRole = `shared-${number}`;

/** A queue of a card's TAP, opened with IFF_VNET_HDR, or its /dev/vhost-net. */
export type NicFdRole = `nic${number}-${'tap' | 'vhost'}${number}`;

/** QEMU's number for the descriptor with this role. */
export type FdNumber = (role: FdRole) => number;

/** stdin, stdout and stderr come first. */
const FIRST_FD = 3;

/** The roles this VM needs, in the order of their descriptor numbers. */
export function planFds(input: QemuInput): FdRole[] {
  const { boot } = input.spec;
  const roles: FdRole[] = ['qmp', 'console'];
  roles.push(...rootDiskRoles(input.rootDisk));
  if (input.guestDrive) roles.push('guest-drive');
  roles.push(...input.volumes.flatMap(volumeRoles));
  roles.push(...input.spec.shared.map((_, index): SharedFdRole => `shared-${index}`));
  if (boot.kind === 'kernel') roles.push('kernel');
  if (boot.kind === 'kernel' && boot.initrd !== undefined) roles.push('initrd');
  if (input.firmware.kind !== 'bios') roles.push('firmware-vars');
  input.nics.forEach((nic, index) => roles.push(...nicRoles(nic, index)));
  return roles;
}

/** What QEMU inherits for a disk beside the root disk. */
export function volumeRoles({ name, backend }: Pick<Volume, 'name' | 'backend'>): VolumeFdRole[] {
  const local = `volume-${name}` as const;
  return backend === 'rbd' ? [local, `rbd-conf-${name}`, `rbd-key-${name}`] : [local];
}

function rootDiskRoles(disk: RootDisk | undefined): FdRole[] {
  if (disk === undefined) return [];
  if (disk.format === 'raw') return ['root-device'];
  return disk.base === undefined ? ['root-overlay'] : ['root-overlay', 'root-base'];
}

/** The TAP's queues, then vhost's. */
export function nicRoles({ queues, vhost }: TapNic, nic: number): NicFdRole[] {
  const of = (kind: 'tap' | 'vhost'): NicFdRole[] =>
    Array.from({ length: queues }, (_, queue): NicFdRole => `nic${nic}-${kind}${queue}`);
  return vhost ? [...of('tap'), ...of('vhost')] : of('tap');
}

export function fdNumber(roles: readonly FdRole[]): FdNumber {
  return (role) => {
    const index = roles.indexOf(role);
    if (index < 0) throw new TypeError(`descriptor ${role} is used but not planned`);
    return FIRST_FD + index;
  };
}
