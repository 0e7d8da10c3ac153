/** What becomes of a VM whose guest ends by itself; see docs/power.md. */
export interface PowerSpec {
  /** The guest has powered itself off. */
  readonly onPoweroff: GuestEndPolicy;
  /** The guest reboots; `restart` is the reset in place that a PC does. */
  readonly onReboot: GuestEndPolicy;
  /** The guest's kernel panics, or QEMU ends by itself. */
  readonly onCrash: GuestEndPolicy;
}

/** `exit`: the task ends. `restart`: it boots again. `hold`: the VM is off and its task goes on, until somebody starts it. */
export type GuestEndPolicy = 'exit' | 'restart' | 'hold';
