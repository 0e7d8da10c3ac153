/** The longest delay that setTimeout takes; more would fire at once. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** Calls back once when `performance.now()` reaches the deadline, however far away that is. */
export class DeadlineTimer implements Disposable {
  readonly #deadline: number;
  readonly #onExpired: () => void;
  #timer: NodeJS.Timeout | undefined;

  /** `deadline` is in milliseconds of `performance.now()`. */
  constructor(deadline: number, onExpired: () => void) {
    this.#deadline = deadline;
    this.#onExpired = onExpired;
    this.#arm();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #arm(): void {
    const left = this.#deadline - performance.now();
    // Rounded up: a timer may otherwise fire a fraction of a millisecond before the deadline and be set again.
    this.#timer = setTimeout(
      () => {
        if (performance.now() < this.#deadline) this.#arm();
        else this.#onExpired();
      },
      Math.min(Math.max(Math.ceil(left), 0), MAX_DELAY_MS),
    );
  }
}
