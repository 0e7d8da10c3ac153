import type { DiskAccess, VolumeMount } from './disk-spec.ts';

/** A volume that the guest mounts as it is, files and all, instead of as a disk. */
export interface SharedDirectory {
  /** What the guest mounts it by; at most 36 letters, digits, ".", "_" and "-". Source: virtio 1.2, 5.11.4. */
  readonly tag: string;
  readonly mount: VolumeMount;
  readonly access: DiskAccess;
  /** How long the guest believes what it has read: `never` asks for everything anew, `always` never does. */
  readonly cache: SharedCache;
}

export type SharedCache = 'auto' | 'always' | 'never';

/** Places for them; see src/qemu/pci-address.ts. */
export const MAX_SHARED = 8;
