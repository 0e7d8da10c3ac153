import type { DiskSpec } from './disk-spec.ts';
import type { GuestDataSpec } from './guest-data-spec.ts';
import type { HardwareSpec } from './hardware-spec.ts';
import type { SharedDirectory } from './shared-directory.ts';
import type { PowerSpec } from './power-spec.ts';

/**
 * What one VM is, after everything a user can say (OCI spec, annotations, runtime options, config file) was parsed
 * once at the edge. Nothing in here is optional in the sense of "maybe filled later".
 */
export interface VmSpec {
  /** containerd's id of the container that is this VM. */
  readonly id: string;
  /** containerd namespace. */
  readonly namespace: string;
  /** What the guest and `ps` call the VM: the pod's name, else the id. */
  readonly name: string;
  /** SMBIOS system UUID; stable for the life of the pod. */
  readonly uuid: string;
  readonly owner: VmOwner;
  readonly vcpus: number;
  /** vCPUs that a raised CPU limit can give it; `vcpus` where none can be added. */
  readonly maxVcpus: number;
  /** Whether the number of vCPUs follows the CPU limit: not where an annotation alone names it. */
  readonly vcpusFollowLimit: boolean;
  /** Guest RAM in bytes, a multiple of 1 MiB. */
  readonly memoryBytes: number;
  /** RAM that a raised memory limit can give it, in bytes; `memoryBytes` where none can be added. */
  readonly maxMemoryBytes: number;
  /** Whether its RAM grows with the memory limit: not where an annotation alone says how much it has. */
  readonly memoryFollowsLimit: boolean;
  /** The container's memory limit in bytes, a multiple of 1 MiB; undefined for none. */
  readonly memoryLimitBytes: number | undefined;
  readonly cpuModel: CpuModel;
  /** Whether a guest under KVM is offered virtualization of its own. */
  readonly nested: boolean;
  readonly accel: AccelChoice;
  readonly machine: MachineKind;
  readonly firmware: FirmwareKind;
  readonly hardware: HardwareSpec;
  /** What becomes of the VM when its guest ends by itself. */
  readonly power: PowerSpec;
  readonly boot: BootSource;
  readonly network: NetworkSpec;
  /** Where the root disk is kept. */
  readonly rootPlace: RootPlace;
  readonly numa: NumaChoice;
  readonly cpuPinning: CpuPinning;
  /** Huge pages that the RAM is made of, by their size in bytes; undefined: ordinary memory. */
  readonly hugepageBytes: number | undefined;
  /** Root disk size in bytes when larger than the image's own, else undefined. */
  readonly rootDiskBytes: number | undefined;
  /** All others, in the order of their places. */
  readonly disks: readonly DiskSpec[];
  readonly onShimDeath: ShimDeathPolicy;
  /** Volumes that the guest mounts as directories. */
  readonly shared: readonly SharedDirectory[];
  /** What the guest configures itself with. */
  readonly guestData: GuestDataSpec;
  /** `linux.cgroupsPath` of the OCI spec as given, or undefined. */
  readonly cgroupsPath: string | undefined;
  /** How soon the kernel kills QEMU for memory: -1000 (never) to 1000 (first), or undefined (proc_pid_oom_score_adj(5)). */
  readonly oomScoreAdj: number | undefined;
  /** `linux.resources` of the OCI spec as far as the cgroup takes it. */
  readonly resources: CpuResources;
}

/** Whose the VM's disks are: a pod's (they live as long as the pod) or a bare container's. */
export type VmOwner =
  | { readonly kind: 'container' }
  | {
      readonly kind: 'pod';
      readonly uid: string;
      readonly name: string;
      readonly namespace: string;
      readonly container: string;
      readonly sandboxId: string;
    };

/** What becomes of the guest when its shim dies: it runs on and waits for the next one, or it ends. */
export type ShimDeathPolicy = 'survive' | 'kill';

/** Where a root disk is kept, and so how long it lives. */
export type RootPlace =
  /** Its owner's: under the pod's UID, or in a bare container's snapshot. */
  | { readonly kind: 'own' }
  /** The node's, under the pod's namespace and name: the next pod of that name gets it. */
  | { readonly kind: 'name' }
  /** A volume's directory on the host. */
  | { readonly kind: 'volume'; readonly directory: string }
  /** A block volume. `path` is the container's; `fill` says whether a blank one is filled from the image. */
  | {
      readonly kind: 'device';
      readonly path: string;
      readonly major: number;
      readonly minor: number;
      readonly fill: 'once' | 'never';
    };

export type AccelChoice = 'auto' | 'kvm' | 'tcg';
/** Where a VM goes among the host's memory nodes; `near` a network interface of the host. */
export type NumaChoice =
  | { readonly kind: 'auto' }
  | { readonly kind: 'none' }
  | { readonly kind: 'spread' }
  | { readonly kind: 'node'; readonly node: number }
  | { readonly kind: 'near'; readonly link: string };
/** What becomes of a VM that fits no single memory node. */
export type NumaOverflow = 'spread' | 'float' | 'refuse';
/** `dedicated`: every vCPU has a CPU of its own, on cores that no other VM runs on. */
export type CpuPinning = 'shared' | 'dedicated';
export type MachineKind = 'q35' | 'microvm';
/** `uefi-secure` runs only boot loaders that are signed with a key the firmware knows. */
export type FirmwareKind = 'bios' | 'uefi' | 'uefi-secure';
/** `default` is what suits the accelerator: the host's own CPU under KVM, `max` under TCG. */
export type CpuModel = 'default' | (string & {});

export type BootSource =
  | { readonly kind: 'disk' }
  | {
      readonly kind: 'kernel';
      /** Absolute paths inside the image. */
      readonly kernel: string;
      readonly initrd: string | undefined;
      readonly cmdline: string;
      /** A kernel boot may do without a disk: an initramfs alone is a system. */
      readonly disk: 'required' | 'optional';
    };

export type NetworkSpec =
  | { readonly mode: 'none' }
  | { readonly mode: 'user'; readonly mac: string; readonly forwards: readonly PortForward[] }
  /** The pod's own: a TAP that `vm-tap` prepared, or the links another CNI plugin left in the pod's namespace. */
  | {
      readonly mode: 'pod';
      readonly wanted: 'any' | 'tap' | 'netns';
      /** What the first card’s address must be; undefined leaves it to the CNI plugin. */
      readonly mac: string | undefined;
      /** Whether the spoof guard holds the guest to its own addresses. */
      readonly guard: boolean;
    };

/** A TCP or UDP port of the host that QEMU's own network hands to the guest. */
export interface PortForward {
  readonly protocol: 'tcp' | 'udp';
  readonly hostAddress: string;
  readonly hostPort: number;
  readonly guestPort: number;
}

/** CPU part of the OCI `LinuxResources`; undefined means "not limited". */
export interface CpuResources {
  readonly cpuShares: number | undefined;
  readonly cpuQuota: number | undefined;
  readonly cpuPeriod: number | undefined;
  readonly cpusetCpus: string | undefined;
  readonly cpusetMems: string | undefined;
}
