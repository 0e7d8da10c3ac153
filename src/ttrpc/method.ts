import type { Metadata } from './envelope.ts';
import type { StreamChannel } from './stream.ts';

/** What a handler knows of its call besides the payload. */
export interface CallContext {
  /**
   * Aborts when the deadline passes (reason: a `TimeoutError` DOMException), when the connection goes away (reason: a
   * VmError Canceled), or when a stream is ended because its handler does not receive (VmError ResourceExhausted).
   */
  readonly signal: AbortSignal;
  readonly metadata: Metadata;
  /** When the client gives up, in milliseconds of `performance.now()`. */
  readonly deadline: number | undefined;
}

/** One request, one response. What is thrown becomes the response's status. */
export interface UnaryMethod {
  readonly kind: 'unary';
  handle(payload: Uint8Array, call: CallContext): Promise<Uint8Array> | Uint8Array;
}

/**
 * One request, then messages both ways. The stream ends when the handler does: with the payload it returns as the
 * final response, without one when it returns undefined, with a status when it throws.
 */
export interface StreamMethod {
  readonly kind: 'stream';
  handle(request: Uint8Array, channel: StreamChannel, call: CallContext): Promise<Uint8Array | undefined>;
}

/** Payloads are opaque bytes; they are views of what was received and are not changed afterwards. */
export type MethodDefinition = UnaryMethod | StreamMethod;

/** Full service name to method name to method. */
export type Services = ReadonlyMap<string, ReadonlyMap<string, MethodDefinition>>;
