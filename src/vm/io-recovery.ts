import {
  addIoError,
  describeTrouble,
  type IoErrorEvent,
  type IoTrouble,
  untoldTrouble,
} from './io-trouble.ts';

/** Waits before the guest is let go on, in milliseconds: 1 s, twice as long each time, at most 30 s. */
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 30_000;
/** A guest that ran this long without another error has its disk back. */
const SETTLED_MS = 5_000;
/** A guest that is told of its errors may cause thousands in a second. */
const REPORT_MS = 60_000;

export interface IoRecoveryDeps {
  /** Lets the guest go on, by which QEMU tries the refused requests again. */
  readonly resume: () => Promise<void>;
  /** The guest has stopped for its storage; once until `ended`, however often it is tried in between. */
  readonly began: (trouble: IoTrouble) => void;
  readonly ended: (trouble: IoTrouble) => void;
  readonly warn: (sentence: string) => void;
}

/**
 * Sees a VM through trouble with its disks. Nothing tells when a file system has space again or a volume answers, so
 * while the guest is stopped, and only then, it is let go on from time to time.
 */
export class IoRecovery implements Disposable {
  readonly #deps: IoRecoveryDeps;
  /** Since the guest stopped for it, until it has run on for a while. */
  #stopping: IoTrouble | undefined;
  /** Errors that the guest was told of. */
  #reported: IoTrouble | undefined;
  #reportedAt = -Infinity;
  #begun = false;
  #attempts = 0;
  #timer: NodeJS.Timeout | undefined;
  #disposed = false;

  constructor(deps: IoRecoveryDeps) {
    this.#deps = deps;
  }

  /** What has stopped the guest, or would have if it had not been paused before. */
  get trouble(): IoTrouble | undefined {
    return this.#stopping;
  }

  /** What the guest was told of since the VM was created. */
  get reported(): IoTrouble | undefined {
    return this.#reported;
  }

  /** QEMU's policy decides what becomes of an error; this only takes note of it. */
  note(event: IoErrorEvent): void {
    if (event.action === 'stop') {
      this.#stopping = addIoError(this.#stopping, event);
      return;
    }
    this.#reported = addIoError(this.#reported, event);
    if (event.at - this.#reportedAt < REPORT_MS) return;
    this.#reportedAt = event.at;
    this.#deps.warn(
      `${describeTrouble(this.#reported)}; the guest was told, ${this.#reported.errors} times so far`,
    );
  }

  /** The guest has stopped for its storage and nobody else wants it stopped. */
  stalled(): void {
    const trouble = (this.#stopping ??= untoldTrouble(Date.now()));
    if (!this.#begun) {
      this.#begun = true;
      this.#attempts = 0;
      this.#deps.began(trouble);
    }
    this.#after(Math.min(FIRST_RETRY_MS * 2 ** this.#attempts++, LAST_RETRY_MS), () => this.#try());
  }

  /** The guest runs, by whomever's doing. */
  resumed(): void {
    if (this.#stopping === undefined) return;
    this.#after(SETTLED_MS, () => this.#settled());
  }

  /** Somebody wants the guest stopped: it is not ours to let it go on. */
  hold(): void {
    clearTimeout(this.#timer);
  }

  /** Tries at once. */
  retryNow(): void {
    clearTimeout(this.#timer);
    this.#try();
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    clearTimeout(this.#timer);
  }

  #try(): void {
    // Where it did not help the guest stops again, which QEMU tells. A QEMU that refuses, or is gone, is past this help.
    this.#deps.resume().catch(() => undefined);
  }

  #settled(): void {
    const trouble = this.#stopping;
    this.#stopping = undefined;
    if (!this.#begun || trouble === undefined) return;
    this.#begun = false;
    this.#deps.ended(trouble);
  }

  #after(ms: number, then: () => void): void {
    clearTimeout(this.#timer);
    if (!this.#disposed) this.#timer = setTimeout(then, ms);
  }
}
