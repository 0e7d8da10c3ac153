import type { VolumeFdRole } from '../qemu/plan-fds.ts';
import type { Volume } from '../qemu/qemu-input.ts';

/** The VM's disks beside its root disk, ready for QEMU. Disposing closes our descriptors. */
export interface VmDisks extends Disposable {
  readonly volumes: readonly Volume[];
  readonly fds: ReadonlyMap<VolumeFdRole, number>;
  readonly facts: readonly DiskFacts[];
  readonly warnings: readonly string[];
}

/** One disk for people. */
export interface DiskFacts {
  readonly name: string;
  readonly serial: string;
  readonly source: string;
  /** On the node. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** `virtio disk`, `sata cdrom` and so on. */
  readonly device: string;
  readonly readOnly: boolean;
  readonly cache: Volume['cache'];
  readonly aio: Volume['aio'];
}

/** Of most VMs. */
export const NO_DISKS: VmDisks = {
  volumes: [],
  fds: new Map(),
  facts: [],
  warnings: [],
  [Symbol.dispose]: () => undefined,
};
