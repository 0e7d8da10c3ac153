import { setTimeout as delay } from 'node:timers/promises';
import { VmError } from '../../core/errors.ts';

/** Milliseconds. */
export interface BackOffTimes {
  readonly first: number;
  readonly most: number;
}

/**
 * Waits longer after every failure in a row: twice as long each time, and a random part of that, so that the agents of a
 * cluster do not come back to their API server all at once.
 */
export class BackOff {
  readonly #times: BackOffTimes;
  readonly #random: () => number;
  #failures = 0;

  constructor(times: BackOffTimes, random: () => number = Math.random) {
    this.#times = times;
    this.#random = random;
  }

  get failures(): number {
    return this.#failures;
  }

  /** All is well again. */
  reset(): void {
    this.#failures = 0;
  }

  /** Counts a failure. @returns how long to wait, in milliseconds. */
  next(): number {
    const whole = Math.min(this.#times.most, this.#times.first * 2 ** Math.min(this.#failures, 30));
    this.#failures += 1;
    return whole / 2 + (whole / 2) * this.#random();
  }

  /** @throws VmError Canceled when the signal aborts. */
  async wait(signal: AbortSignal): Promise<void> {
    try {
      await delay(this.next(), undefined, { signal });
    } catch {
      throw VmError.from(signal.reason);
    }
  }
}
