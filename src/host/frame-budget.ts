/** At most `frames` in any window of `windowMs`; the windows follow each other, the first begins with the first frame. */
export class FrameBudget {
  readonly #frames: number;
  readonly #windowMs: number;
  #windowStart = Number.NEGATIVE_INFINITY;
  #taken = 0;

  constructor(frames: number, windowMs: number) {
    this.#frames = frames;
    this.#windowMs = windowMs;
  }

  /** Takes one if there is one. @returns 0, or the milliseconds after which there is one again */
  take(now: number): number {
    if (now - this.#windowStart >= this.#windowMs) {
      this.#windowStart = now;
      this.#taken = 0;
    }
    if (this.#taken === this.#frames) return this.#windowStart + this.#windowMs - now;
    this.#taken += 1;
    return 0;
  }
}
