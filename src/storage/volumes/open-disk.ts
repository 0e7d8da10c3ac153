import type { DiskSpec } from '../../core/disk-spec.ts';
import type { OwnedFd } from '../../host/host.ts';

/** A disk beside the root disk, open and found sound. Whoever asked for it closes the descriptor. */
export interface OpenDisk {
  readonly spec: DiskSpec;
  readonly fd: OwnedFd;
  readonly kind: 'file' | 'block-device';
  readonly readOnly: boolean;
  /** Bytes the guest sees. */
  readonly size: number;
  /** Whether the descriptor has O_DIRECT. */
  readonly direct: boolean;
  /** Of a block device, in bytes. */
  readonly blockSize: BlockSize | undefined;
  /** For people: the file or device on the node. */
  readonly path: string;
  /** The same for two disks with the same bytes, and for nothing else on this node. */
  readonly identity: string;
}

export interface BlockSize {
  readonly logical: number;
  readonly physical: number;
}
