import { VmError } from '../core/errors.ts';
import type { QmpEvent } from './qmp-codec.ts';

const defaultLimit = 256;

/**
 * The events of some names from the moment `QmpClient.listen()` returns until disposed. Listening before the
 * command is sent is what makes "send, then wait for its event" lose nothing.
 *
 * At most `limit` events wait to be taken; one more ends the listener with ResourceExhausted, because a listener
 * that silently skipped events would let its owner wait for one that had already come.
 */
export class QmpListener implements Disposable, AsyncIterable<QmpEvent> {
  readonly #names: ReadonlySet<string>;
  readonly #limit: number;
  readonly #onDispose: (listener: QmpListener) => void;
  readonly #queue: QmpEvent[] = [];
  readonly #waiting = new Set<PromiseWithResolvers<QmpEvent>>();
  #ended: VmError | undefined;

  constructor(names: readonly string[], onDispose: (listener: QmpListener) => void, limit = defaultLimit) {
    this.#names = new Set(names);
    this.#onDispose = onDispose;
    this.#limit = limit;
  }

  /**
   * The next event. After the connection has ended the events that came before it are still given, then this throws
   * Unavailable; Canceled or DeadlineExceeded come from `signal`, FailedPrecondition after disposal.
   */
  async next(options: { signal?: AbortSignal } = {}): Promise<QmpEvent> {
    const { signal } = options;
    if (signal?.aborted === true) throw VmError.from(signal.reason, this.#waitingFor());
    const first = this.#queue.shift();
    if (first !== undefined) return first;
    if (this.#ended !== undefined) throw this.#ended;
    const waiter = Promise.withResolvers<QmpEvent>();
    const abort = (): void => waiter.reject(VmError.from(signal?.reason, this.#waitingFor()));
    this.#waiting.add(waiter);
    signal?.addEventListener('abort', abort, { once: true });
    try {
      return await waiter.promise;
    } finally {
      this.#waiting.delete(waiter);
      signal?.removeEventListener('abort', abort);
    }
  }

  /** Ends, without an error, when the listener is disposed or the connection is closed. */
  async *[Symbol.asyncIterator](): AsyncGenerator<QmpEvent, void, undefined> {
    for (;;) {
      try {
        yield await this.next();
      } catch (error) {
        if (error === this.#ended && !VmError.is(error, 'ResourceExhausted')) return;
        throw error;
      }
    }
  }

  /** For the client: hands over an event of the connection. */
  deliver(event: QmpEvent): void {
    if (this.#ended !== undefined || !this.#names.has(event.name)) return;
    const [waiter] = this.#waiting;
    if (waiter !== undefined) {
      this.#waiting.delete(waiter);
      waiter.resolve(event);
    } else if (this.#queue.length < this.#limit) {
      this.#queue.push(event);
    } else {
      this.end(
        new VmError('ResourceExhausted', `${this.#waitingFor()}: more than ${this.#limit} were not taken`),
      );
    }
  }

  /** For the client: no event will follow. */
  end(error: VmError): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    for (const waiter of this.#waiting) waiter.reject(error);
    this.#waiting.clear();
    this.#onDispose(this);
  }

  [Symbol.dispose](): void {
    this.#queue.length = 0;
    this.end(new VmError('FailedPrecondition', `${this.#waitingFor()}: the listener was disposed`));
  }

  #waitingFor(): string {
    return `waiting for QMP event ${[...this.#names].join(' or ')}`;
  }
}
