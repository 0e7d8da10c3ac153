/** How long a shim without a task waits for one: containerd calls Create right after `start`. */
const IDLE_MS = 30_000;

/** Ends a shim that nobody wants: whose Create never came, or whose Shutdown was lost. No timer runs while a task exists. */
export class IdleExit {
  readonly #onIdle: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(onIdle: () => void) {
    this.#onIdle = onIdle;
  }

  arm(): void {
    this.cancel();
    this.#timer = setTimeout(this.#onIdle, IDLE_MS);
  }

  cancel(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
