import type { VolumeFdRole } from '../qemu/plan-fds.ts';
import type { QmpCallOptions, QmpExecutor } from '../qemu/qmp-commands.ts';
import type { LocalVolume, Volume } from '../qemu/qemu-input.ts';

/** The VM's disks beside its root disk, ready for QEMU. Disposing closes our descriptors. */
export interface VmDisks extends Disposable {
  readonly volumes: readonly Volume[];
  readonly fds: ReadonlyMap<VolumeFdRole, number>;
  readonly facts: readonly DiskFacts[];
  readonly warnings: readonly string[];
  /** Set where QEMU opens some of them over the network when it starts: how long all of that may take. */
  readonly remote: undefined | RemoteDisks;
  /** The reason why QEMU did not start, if these are. */
  explain(error: unknown): unknown;
}

export interface RemoteDisks {
  readonly deadlineMs: number;
  /** `facts` with what only QEMU knows, once it has them open. */
  facts(qmp: QmpExecutor, options: QmpCallOptions): Promise<readonly DiskFacts[]>;
}

/** One disk for people. */
export interface DiskFacts {
  readonly name: string;
  readonly serial: string;
  readonly source: string;
  /** On the node, or in its cluster. */
  readonly path: string;
  /** Bytes; 0 where only QEMU will know. */
  readonly size: number;
  /** `virtio disk`, `sata cdrom` and so on. */
  readonly device: string;
  readonly readOnly: boolean;
  readonly cache: Volume['cache'];
  readonly aio: LocalVolume['aio'] | 'librbd';
}

/** Of most VMs. */
export const NO_DISKS: VmDisks = {
  volumes: [],
  fds: new Map(),
  facts: [],
  warnings: [],
  remote: undefined,
  explain: (error) => error,
  [Symbol.dispose]: () => undefined,
};
