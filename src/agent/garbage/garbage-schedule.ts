/** What a collection came to: whether there is more that may go later, or why it was not done. */
export type Outcome = { readonly t: 'done'; readonly more: boolean } | { readonly t: 'not done' };

/** A timer counts milliseconds in 31 bits. */
const LONGEST_MS = 2 ** 31 - 1;

/** Calls back once after a time in milliseconds, unless disposed before. */
export type Later = (ms: number, callback: () => void) => Disposable;

function afterTime(ms: number, callback: () => void): Disposable {
  const timer = setTimeout(callback, ms);
  return { [Symbol.dispose]: () => clearTimeout(timer) };
}

/**
 * When garbage is collected: once at first, then the grace after a pod has gone, and again while something may have become
 * old enough. A node on which no pod comes or goes is left alone.
 */
export class GarbageSchedule implements AsyncDisposable {
  readonly #graceMs: number;
  readonly #retryMs: number;
  readonly #collect: () => Promise<Outcome>;
  readonly #later: Later;
  #timer: Disposable | undefined;
  #running: Promise<void> | undefined;
  #began = false;
  #ended = false;

  /** @param collect must not reject. */
  constructor(
    times: { graceMs: number; retryMs: number },
    collect: () => Promise<Outcome>,
    later: Later = afterTime,
  ) {
    this.#later = later;
    this.#graceMs = times.graceMs;
    this.#retryMs = times.retryMs;
    this.#collect = collect;
  }

  /** The pods of this node are known. */
  begin(): void {
    if (this.#began) return;
    this.#began = true;
    this.#arm(0);
  }

  /** A pod has gone; what it leaves is looked at when it is old enough. */
  podGone(): void {
    // What is under way may look before the pod's last trace is gone, and is followed by another one.
    if (this.#timer === undefined) this.#arm(this.#graceMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    this.#timer?.[Symbol.dispose]();
    await this.#running;
  }

  #arm(ms: number): void {
    if (this.#ended) return;
    // A little more, since clocks and file systems count in different steps.
    this.#timer = this.#later(Math.min(LONGEST_MS, ms === 0 ? 0 : ms + 1_000), () => this.#fire());
  }

  #fire(): void {
    this.#timer = undefined;
    this.#running = (this.#running ?? Promise.resolve()).then(async () => {
      const outcome = await this.#collect();
      if (this.#timer !== undefined) return;
      if (outcome.t === 'not done') this.#arm(this.#retryMs);
      else if (outcome.more) this.#arm(Math.max(this.#graceMs, this.#retryMs));
    });
  }
}
