import { VmError } from '../core/errors.ts';
import { DeadlineTimer } from './deadline-timer.ts';
import type { Metadata } from './envelope.ts';
import type { CallContext } from './method.ts';
import type { Channel } from './stream.ts';

/**
 * The server's side of one call. Signal and timer are made only when somebody needs them, since most calls are over
 * in microseconds.
 */
export class ServerCall implements CallContext {
  readonly streamId: number;
  readonly metadata: Metadata;
  readonly deadline: number | undefined;
  /** Present for a stream. */
  readonly channel: Channel | undefined;
  #over = false;
  #controller: AbortController | undefined;
  #aborted: { readonly reason: unknown } | undefined;
  #timer: DeadlineTimer | undefined;

  constructor(
    streamId: number,
    metadata: Metadata,
    deadline: number | undefined,
    channel: Channel | undefined,
  ) {
    this.streamId = streamId;
    this.metadata = metadata;
    this.deadline = deadline;
    this.channel = channel;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted !== undefined) this.#controller.abort(this.#aborted.reason);
    }
    return this.#controller.signal;
  }

  /** True once the call has its answer or needs none: whatever its handler still produces is dropped. */
  get over(): boolean {
    return this.#over;
  }

  /** Watches the deadline from now on; `onExpired` gets the abort reason. */
  watchDeadline(onExpired: (reason: DOMException) => void): void {
    if (this.deadline === undefined || this.#over) return;
    this.#timer = new DeadlineTimer(this.deadline, () =>
      onExpired(new DOMException('the deadline of the call has passed', 'TimeoutError')),
    );
  }

  /** The handler is done. */
  complete(): void {
    this.#over = true;
    this.#timer?.[Symbol.dispose]();
    this.channel?.finish();
  }

  /** The handler is to stop; its outcome does not matter any more. */
  abort(reason: Error): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer?.[Symbol.dispose]();
    this.#aborted = { reason };
    this.channel?.finish(VmError.from(reason));
    this.#controller?.abort(reason);
  }
}
