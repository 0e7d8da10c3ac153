import { MIB } from '../core/quantity.ts';
import type { VideoModel } from '../core/hardware-spec.ts';
import type { VmSpec } from '../core/vm-spec.ts';
import { TCG_CODE_MIB } from '../qemu/plan-accel.ts';

/** What a VM is expected to have of the node's memory at most, in bytes, charged to its cgroup. */
export interface MemoryNeed {
  /** Guest RAM in ordinary pages; huge pages are accounted elsewhere (cgroup-v1/hugetlb.rst). */
  readonly ram: number;
  /** QEMU and its helpers, and the kernel for them. */
  readonly beside: number;
}

type Makeup = Pick<
  VmSpec,
  | 'memoryBytes'
  | 'maxMemoryBytes'
  | 'hugepageBytes'
  | 'maxVcpus'
  | 'firmware'
  | 'hardware'
  | 'disks'
  | 'shared'
  | 'network'
>;

/** In MiB; measured by `npm run bench:memory` and rounded up generously. docs/memory.md has figures and formula. */
const FIXED = 80;
const PER_VCPU = 4;
const PER_CARD = 8;
const PER_DISK = 3;
/** Ceph's client keeps a cache of 32 MiB for each image, and threads. */
const PER_RBD_DISK = 64;
const PER_SHARED_DIRECTORY = 32;
const UEFI = 8;
/** Its frame buffer, or what a guest makes its virtio-gpu keep for one screen. */
const VIDEO: Readonly<Record<VideoModel, number>> = { none: 0, std: 24, virtio: 48 };
/** Page tables are 1/512 of the RAM that they map in pages of 4 KiB: QEMU's own, and KVM's for the guest. */
const RAM_PER_TABLES = 256;
/** QEMU's books of its translated code are a tenth of the code. */
const TCG = Math.ceil(TCG_CODE_MIB * 1.1);

/** @param cards of the pod's network */
export function memoryNeed(vm: Makeup, accel: 'kvm' | 'tcg', cards: number): MemoryNeed {
  const { memoryBytes, maxMemoryBytes, hugepageBytes, maxVcpus, firmware, hardware, disks, shared, network } =
    vm;
  // The root disk and the drive of the guest's data come on top of those that were asked for.
  const fixed = FIXED + (firmware === 'bios' ? 0 : UEFI) + VIDEO[hardware.video] + 2 * PER_DISK;
  const counted =
    PER_VCPU * maxVcpus +
    PER_CARD * Math.max(cards, network.mode === 'none' ? 0 : 1) +
    PER_DISK * disks.length +
    PER_RBD_DISK * disks.filter(({ source }) => source.kind === 'rbd').length +
    PER_SHARED_DIRECTORY * shared.length;
  // A RuntimeClass's overhead does not grow with a VM.
  const tables = hugepageBytes === undefined ? Math.max(memoryBytes, maxMemoryBytes) / RAM_PER_TABLES : 0;
  return {
    ram: hugepageBytes === undefined ? memoryBytes : 0,
    beside: (fixed + counted + (accel === 'tcg' ? TCG : 0)) * MIB + Math.ceil(tables),
  };
}

/**
 * The limit of the VM's own cgroup. Twice of what is expected beside the RAM: it is there to stop a QEMU that leaks or that
 * its guest has taken over, and must never strike one that is merely busy.
 */
export function memoryLimit({ ram, beside }: MemoryNeed): number {
  return ram + 2 * Math.ceil(beside / MIB) * MIB;
}
