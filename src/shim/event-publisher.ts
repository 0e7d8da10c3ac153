import { describeError, VmError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';

/** Delivers one event to containerd; rejects with Unavailable when containerd is not there, else with its refusal. */
export type ForwardEvent = (event: TaskEvent, signal: AbortSignal) => Promise<void>;

export interface TaskEvent {
  /** `/tasks/…`, see containerd core/runtime/events.go. */
  readonly topic: string;
  /** Bare message name, `containerd.events.TaskExit`. */
  readonly typeUrl: string;
  readonly value: Uint8Array;
  /** Milliseconds since the epoch, of the event and not of its delivery. */
  readonly at: number;
}

const ATTEMPT_MS = 5_000;
const FIRST_DELAY_MS = 200;
const LONGEST_DELAY_MS = 5_000;
/** containerd re-reads every task's state when it comes back; what is older than this tells it nothing new. */
const KEEP_MS = 10 * 60_000;

/**
 * One queue per shim: events leave in the order they were published, whatever it takes. While containerd is away the
 * first event is tried again (never overtaken by the next), with growing delays; an event that containerd refuses is
 * dropped, since trying again would not help. No RPC waits for delivery.
 */
export class EventPublisher {
  readonly #queue: TaskEvent[] = [];
  readonly #forward: ForwardEvent;
  readonly #log: Logger;
  #working: Promise<void> | undefined;
  #wake: (() => void) | undefined;

  constructor(forward: ForwardEvent, log: Logger) {
    this.#forward = forward;
    this.#log = log;
  }

  publish(event: TaskEvent): void {
    this.#queue.push(event);
    this.#working ??= this.#work();
  }

  /** Resolves when every event was delivered or dropped, or when the signal says that this is long enough. */
  async drained(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    signal.addEventListener('abort', () => resolve(undefined), { once: true });
    this.#wake?.();
    await Promise.race([this.#working, promise]);
  }

  async #work(): Promise<void> {
    let delay = FIRST_DELAY_MS;
    for (let event = this.#queue[0]; event !== undefined; event = this.#queue[0]) {
      try {
        await this.#forward(event, AbortSignal.timeout(ATTEMPT_MS));
        this.#queue.shift();
        delay = FIRST_DELAY_MS;
      } catch (error) {
        const away =
          VmError.is(error, 'Unavailable') ||
          VmError.is(error, 'DeadlineExceeded') ||
          VmError.is(error, 'NotFound');
        if (!away || Date.now() - event.at > KEEP_MS) {
          this.#log.warn('event dropped', { topic: event.topic, error: describeError(error) });
          this.#queue.shift();
          continue;
        }
        await this.#pause(delay);
        delay = Math.min(delay * 2, LONGEST_DELAY_MS);
      }
    }
    this.#working = undefined;
  }

  async #pause(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => resolve(undefined), ms);
    this.#wake = () => resolve(undefined);
    await promise;
    clearTimeout(timer);
    this.#wake = undefined;
  }
}
