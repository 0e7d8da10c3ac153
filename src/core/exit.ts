/** Why a VM's QEMU process ended, as the kernel and QEMU's own events tell it. */
export type ExitReason =
  | { readonly kind: 'guest-shutdown' }
  | { readonly kind: 'guest-reset' }
  | { readonly kind: 'guest-panic' }
  | { readonly kind: 'killed'; readonly signal: number }
  /** The VM was off already when its task was to end. */
  | { readonly kind: 'powered-off' }
  | { readonly kind: 'crashed'; readonly signal: number }
  | { readonly kind: 'qemu-error'; readonly code: number; readonly message: string }
  | { readonly kind: 'out-of-memory' };

/** The exit of a task as containerd's clients see it. */
export interface TaskExit {
  /** Process exit status, 0 to 255; 128 + N after signal N. */
  readonly status: number;
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly reason: ExitReason;
}

/** The exit status of a reason: 0 for a guest that powered itself off, 1 for a panic, 128 + N for signal N. */
export function exitStatus(reason: ExitReason): number {
  switch (reason.kind) {
    case 'guest-shutdown':
    case 'guest-reset':
    case 'powered-off':
      return 0;
    case 'guest-panic':
      return 1;
    case 'killed':
    case 'crashed':
      return 128 + reason.signal;
    case 'qemu-error':
      return reason.code === 0 ? 1 : reason.code;
    case 'out-of-memory':
      return 137;
  }
}

/** One sentence for `vmctl status`, the log and the termination message. */
export function describeExit(reason: ExitReason): string {
  switch (reason.kind) {
    case 'guest-shutdown':
      return 'the guest powered itself off';
    case 'guest-reset':
      return 'the guest rebooted and its policy is to exit';
    case 'guest-panic':
      return 'the guest kernel panicked';
    case 'killed':
      return `the VM was killed on request by signal ${reason.signal}`;
    case 'powered-off':
      return 'the VM was off when its task was ended';
    case 'crashed':
      return `QEMU was ended by signal ${reason.signal} that nobody asked us for`;
    case 'qemu-error':
      return `QEMU exited with status ${reason.code}: ${reason.message}`;
    case 'out-of-memory':
      return 'the kernel ended QEMU because its cgroup ran out of memory';
  }
}
