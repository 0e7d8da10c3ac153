import { VmError } from '../core/errors.ts';
import { DeadlineTimer } from './deadline-timer.ts';
import { decodeResponse } from './envelope.ts';
import { type Frame, FrameFlag, FrameType } from './frame.ts';
import { fromStatus } from './status.ts';
import type { Channel } from './stream.ts';

export interface CallOptions {
  /** Ends the wait. ttrpc cannot cancel: the server goes on until the call's timeout. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds until the call fails with DeadlineExceeded, on both sides. */
  readonly timeoutMs?: number | undefined;
  /** Keys in lower case. */
  readonly metadata?: Readonly<Record<string, readonly string[]>> | undefined;
}

/** What the client does with the frames of one stream id. */
export interface ClientCall {
  /** Returns false when there is no room for the frame now. */
  onFrame(frame: Frame): boolean;
  /** The call has failed; nothing comes after that. */
  fail(error: VmError): void;
}

/** @throws VmError as the response's status says, Internal when it is no valid response. */
function readResponse(frame: Frame): Uint8Array {
  let response;
  try {
    response = decodeResponse(frame.data);
  } catch (error) {
    throw new VmError('Internal', `the server's response cannot be read: ${VmError.from(error).message}`, {
      cause: error,
    });
  }
  const error = fromStatus(response.status);
  if (error !== undefined) throw error;
  return response.payload;
}

/** A call that ends with its first frame. */
export class UnaryCall implements ClientCall {
  readonly #resolve: (payload: Uint8Array) => void;
  readonly #reject: (error: VmError) => void;
  readonly #onOver: () => void;

  constructor(resolve: (payload: Uint8Array) => void, reject: (error: VmError) => void, onOver: () => void) {
    this.#resolve = resolve;
    this.#reject = reject;
    this.#onOver = onOver;
  }

  onFrame(frame: Frame): boolean {
    this.#onOver();
    try {
      if (frame.type !== FrameType.response) {
        throw new VmError('Internal', `the server answered a unary call with a frame of type ${frame.type}`);
      }
      this.#resolve(readResponse(frame));
    } catch (error) {
      this.#reject(VmError.from(error));
    }
    return true;
  }

  fail(error: VmError): void {
    this.#onOver();
    this.#reject(error);
  }
}

/** A call whose frames go to a channel until a response or a closing Data frame ends it. */
export class StreamCall implements ClientCall {
  /** The final response's payload; undefined when the server ended the stream without one. */
  readonly response: Promise<Uint8Array | undefined>;
  readonly #channel: Channel;
  readonly #onOver: () => void;
  readonly #resolve: (payload: Uint8Array | undefined) => void;
  readonly #reject: (error: VmError) => void;

  constructor(channel: Channel, onOver: () => void) {
    this.#channel = channel;
    this.#onOver = onOver;
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array | undefined>();
    this.response = promise;
    this.#resolve = resolve;
    this.#reject = reject;
    // Whoever only iterates learns of the error there.
    promise.catch(() => undefined);
  }

  onFrame(frame: Frame): boolean {
    if (frame.type === FrameType.response) {
      this.#onResponse(frame);
      return true;
    }
    const hasMessage = (frame.flags & FrameFlag.noData) === 0;
    const closes = (frame.flags & FrameFlag.remoteClosed) !== 0;
    // An empty closing frame without noData is an end, not an empty message.
    if (hasMessage && !(closes && frame.data.byteLength === 0) && !this.#channel.offer(frame.data))
      return false;
    if (closes) this.#end(undefined);
    return true;
  }

  fail(error: VmError): void {
    // The server may wait for our end of the stream, and this is all that ttrpc can tell it.
    this.#channel.closeSend();
    this.#endWithError(error);
  }

  #onResponse(frame: Frame): void {
    try {
      this.#end(readResponse(frame));
    } catch (error) {
      this.#endWithError(VmError.from(error));
    }
  }

  #end(payload: Uint8Array | undefined): void {
    this.#onOver();
    this.#channel.finish();
    this.#resolve(payload);
  }

  #endWithError(error: VmError): void {
    this.#onOver();
    this.#channel.finish(error);
    this.#reject(error);
  }
}

/** Calls back once when the signal aborts or the deadline passes; disposing ends the watch. */
export function watchCall(
  options: CallOptions,
  deadline: number | undefined,
  onFailed: (error: VmError) => void,
): Disposable {
  const { signal } = options;
  const onAbort = (): void => onFailed(VmError.from(signal?.reason));
  signal?.addEventListener('abort', onAbort, { once: true });
  const timer =
    deadline === undefined
      ? undefined
      : new DeadlineTimer(deadline, () =>
          onFailed(
            new VmError('DeadlineExceeded', `the call took more than its ${options.timeoutMs ?? 0} ms`),
          ),
        );
  return {
    [Symbol.dispose]() {
      signal?.removeEventListener('abort', onAbort);
      timer?.[Symbol.dispose]();
    },
  };
}
