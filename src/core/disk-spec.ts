import type { MonitorAddress } from './monitor-address.ts';

/** One disk beside the root disk, as the pod says it and before anything of it was looked at. */
export interface DiskSpec {
  /** At most 20 of a-z, 0-9 and "-"; unique in its VM, and what QEMU's nodes are named by. */
  readonly name: string;
  /** What the guest reads from the device; at most 20 bytes, which is all that virtio-blk carries. */
  readonly serial: string;
  readonly source: DiskSource;
  readonly device: DiskDevice;
  readonly bus: VolumeBus;
  readonly access: DiskAccess;
  /** Smaller is tried earlier; the root disk stands at `ROOT_BOOT_ORDER`. Undefined: firmware never boots it. */
  readonly boot: number | undefined;
  readonly cache: DiskCache;
  /** Whether what the guest discards is given back to the host. */
  readonly discard: boolean;
}

export const ROOT_BOOT_ORDER = 100;

export type DiskDevice = 'disk' | 'cdrom';
export type VolumeBus = 'virtio' | 'scsi' | 'sata' | 'usb';
export type DiskAccess = 'rw' | 'ro';
/** `auto` bypasses the host's page cache where the file system can. */
export type DiskCache = 'auto' | 'none' | 'writeback';

/** Where a disk's bytes are. */
export type DiskSource =
  | BlockVolume
  | FileVolume
  | FilesVolume
  /** A sparse file of our own that lives as long as the pod. */
  | { readonly kind: 'empty'; readonly bytes: number }
  /** A file or block device of the node that its administrator allows. */
  | { readonly kind: 'host'; readonly path: string }
  | RbdImage;

/** A block volume (`volumeDevices`): all that the OCI spec says of it is its number. */
export interface BlockVolume {
  readonly kind: 'device';
  /** Where the container would see it. */
  readonly path: string;
  readonly major: number;
  readonly minor: number;
}

/** A raw disk image in a volume's directory, or a volume that is a file. */
export interface FileVolume {
  readonly kind: 'file';
  readonly mount: VolumeMount;
  /** Name of the file in the directory. */
  readonly file: string;
  /** Whether the pod asked for it; else a volume without the file is no disk. */
  readonly asked: boolean;
}

/** The files of a volume, copied onto a small read-only file system when the VM is made. */
export interface FilesVolume {
  readonly kind: 'files';
  readonly mount: VolumeMount;
  readonly format: FilesFormat;
  readonly label: string;
}

export type FilesFormat = 'vfat' | 'iso';

/** A bind mount of the OCI spec. */
export interface VolumeMount {
  /** Where the container would see it. */
  readonly destination: string;
  /** Absolute path on the host. */
  readonly source: string;
  readonly readOnly: boolean;
}

/** An image in a Ceph cluster, read by QEMU's own driver. */
export interface RbdImage {
  readonly kind: 'rbd';
  readonly pool: string;
  readonly namespace: string | undefined;
  readonly image: string;
  readonly snapshot: string | undefined;
  /** None: all that the node's administrator allows. */
  readonly monitors: readonly MonitorAddress[];
  /** Without `client.` in front; undefined: the one that the Secret names. */
  readonly user: string | undefined;
  /** The Secret with the user's key. */
  readonly secret: VolumeMount;
}

/** An image as it is opened, with all that the pod may leave to others. */
export interface RbdTarget extends Pick<RbdImage, 'pool' | 'namespace' | 'image' | 'snapshot'> {
  /** At least one. */
  readonly monitors: readonly MonitorAddress[];
  readonly user: string;
}
