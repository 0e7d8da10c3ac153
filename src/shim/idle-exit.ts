/** How long a shim without a task waits for one: containerd calls Create right after `start`. */
const IDLE_MS = 30_000;

/** The waiting time in milliseconds, which tests shorten by VMSHIM_IDLE_MS. */
export function idleMs(env: NodeJS.ProcessEnv): number {
  const ms = Number(env['VMSHIM_IDLE_MS']);
  return Number.isInteger(ms) && ms > 0 ? ms : IDLE_MS;
}

/** Ends a shim that nobody wants: whose Create never came, or whose Shutdown was lost. No timer runs while a task exists. */
export class IdleExit {
  readonly #onIdle: () => void;
  readonly #ms: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(onIdle: () => void, ms: number) {
    this.#onIdle = onIdle;
    this.#ms = ms;
  }

  arm(): void {
    this.cancel();
    this.#timer = setTimeout(this.#onIdle, this.#ms);
  }

  cancel(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
