/** The steps of a VM's start, in the order they happen; `scripts/demo` and `vmctl status` print them. */
export type TimelineStep =
  | 'start-called'
  | 'shim-ready'
  | 'create-called'
  | 'disk-ready'
  | 'guest-data-ready'
  | 'qemu-spawned'
  | 'qmp-ready'
  | 'created'
  | 'continued'
  | 'first-console-byte'
  | 'exited';

/** When each step was first reached, in milliseconds since the epoch. */
export class Timeline {
  readonly #marks = new Map<TimelineStep, number>();

  mark(step: TimelineStep, at: number = Date.now()): void {
    if (!this.#marks.has(step)) this.#marks.set(step, at);
  }

  /** A timeline with the steps so far, for one of several VMs of a shim. */
  fork(): Timeline {
    const copy = new Timeline();
    for (const [step, at] of this.#marks) copy.mark(step, at);
    return copy;
  }

  entries(): { name: TimelineStep; atMs: number }[] {
    return [...this.#marks].map(([name, atMs]) => ({ name, atMs }));
  }

  at(step: TimelineStep): number | undefined {
    return this.#marks.get(step);
  }
}
