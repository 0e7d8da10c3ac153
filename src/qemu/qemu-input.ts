import type { VmSpec } from '../core/vm-spec.ts';
import type { GuestRam } from '../core/guest-ram.ts';
import type { DiskDevice, RbdTarget, VolumeBus } from '../core/disk-spec.ts';

/** Everything that decides QEMU's command line. Equal inputs give equal command lines. */
export interface QemuInput {
  readonly spec: VmSpec;
  /** What `spec.accel` came to on this host. */
  readonly accel: 'kvm' | 'tcg';
  /** Versioned (`pc-q35-7.2`), recorded when the VM is created so that it outlives QEMU upgrades; or `microvm`. */
  readonly machineType: string;
  readonly ram: GuestRam;
  readonly rootDisk: RootDisk | undefined;
  /** Whether there is a drive that the guest configures itself from: the descriptor `guest-drive`, raw. */
  readonly guestDrive: boolean;
  /** Disks beside the root disk, in their order. */
  readonly volumes: readonly Volume[];
  /** Cards of the pod's network, in their order; none in the other network modes. */
  readonly nics: readonly TapNic[];
  readonly firmware: Firmware;
  readonly aio: 'threads' | 'io_uring';
}

export type RootDisk = RootOverlay | RootDevice;

/** A block device as it is: the descriptor `root-device`. */
export interface RootDevice {
  readonly format: 'raw';
  /** The part of the device that is the guest's disk, in bytes, multiples of 512. */
  readonly offset: number;
  readonly size: number;
}

/** The descriptors `root-overlay` and, with a base, `root-base`. */
export interface RootOverlay {
  readonly format: 'qcow2';
  readonly base: undefined | { readonly format: 'qcow2' | 'raw' };
  /** `none` bypasses the host's page cache for the overlay and needs a file system with O_DIRECT. */
  readonly cache: 'none' | 'writeback';
}

/** A disk beside the root disk. */
export type Volume = LocalVolume | RbdVolume;

/** The descriptor `volume-NAME`, with O_DIRECT where `cache` is none. */
export interface LocalVolume extends VolumeDevice {
  readonly backend: 'file' | 'host_device';
  readonly aio: 'threads' | 'native' | 'io_uring';
}

/**
 * An image in a Ceph cluster. The descriptor `rbd-conf-NAME` is librados's whole configuration, `rbd-key-NAME` the user's key
 * in base64; `volume-NAME` is for QEMU to hold, and no more.
 */
export interface RbdVolume extends VolumeDevice {
  readonly backend: 'rbd';
  readonly rbd: RbdTarget;
}

interface VolumeDevice {
  readonly name: string;
  readonly serial: string;
  /** Disks of one kind have their places in a row of their own, so that none moves when another kind gets one more. */
  readonly row: VolumeRow;
  readonly device: DiskDevice;
  readonly bus: VolumeBus;
  readonly readOnly: boolean;
  readonly cache: 'none' | 'writeback';
  readonly discard: boolean;
  /** Bytes; undefined leaves 512. */
  readonly blockSize: undefined | { readonly logical: number; readonly physical: number };
  /** Position among all disks that firmware tries, see `ROOT_BOOT_ORDER`. */
  readonly boot: number | undefined;
}

export type VolumeRow = 'own' | 'device' | 'mount';

/** A card on a TAP: the descriptors `nicN-tapQ` and, with vhost, `nicN-vhostQ`, one of each per queue. */
export interface TapNic {
  readonly mac: string;
  /** Bytes; the guest learns it from the device. */
  readonly mtu: number;
  /** 1 for a model other than virtio, which has no vhost either. */
  readonly queues: number;
  readonly vhost: boolean;
}

export type Firmware =
  | { readonly kind: 'bios' }
  /** The variables are the descriptor `firmware-vars`, raw. */
  | { readonly kind: 'uefi'; readonly codePath: string }
  /** Code that checks signatures, and variables with keys enrolled. */
  | { readonly kind: 'uefi-secure'; readonly codePath: string };
