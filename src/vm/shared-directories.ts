import type { SharedFdRole } from '../qemu/plan-fds.ts';

/** The virtiofsd of each shared directory, waiting for QEMU. Disposing closes our ends; the processes go with QEMU. */
export interface SharedDirectories extends Disposable {
  readonly fds: ReadonlyMap<SharedFdRole, number>;
  readonly facts: readonly SharedFacts[];
  /** Why QEMU did not start, if one of them is why; else `error` itself. */
  readonly explain: (error: unknown) => Promise<unknown>;
  /** From now on takes note, also in the log, of one that ends before QEMU does. */
  readonly watch: (qemu: { readonly exited: Promise<unknown> }) => void;
  /** A sentence for each that has. */
  readonly lost: () => readonly string[];
}

/** One of them for people. */
export interface SharedFacts {
  readonly tag: string;
  /** Where the container would see it, and where it is on the node. */
  readonly volume: string;
  readonly path: string;
  readonly readOnly: boolean;
}

/** Of most VMs. */
export const NO_SHARED: SharedDirectories = {
  fds: new Map(),
  facts: [],
  explain: (error) => Promise.resolve(error),
  watch: () => undefined,
  lost: () => [],
  [Symbol.dispose]: () => undefined,
};
