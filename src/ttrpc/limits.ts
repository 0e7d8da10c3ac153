/** Bounds on what one peer can make us hold. */
export interface Limits {
  /** Calls of one connection whose handlers run at the same time; more are answered with ResourceExhausted. */
  readonly maxCalls: number;
  /**
   * Outgoing bytes of one connection beyond which nothing more is read from it until the peer has read them all.
   * Eight times as many, and answers that calls under way still produce become ResourceExhausted.
   */
  readonly maxQueuedBytes: number;
  /** Messages of one stream that wait for their receiver. */
  readonly maxStreamMessages: number;
  /** Bytes of one stream that wait for their receiver; a single message may be larger. */
  readonly maxStreamBytes: number;
  /**
   * Milliseconds that a full stream holds up its connection before the stream ends with ResourceExhausted. With
   * Infinity the peer waits for ever, which suits a connection that serves nothing but one stream.
   */
  readonly stallMs: number;
}

/** The stream bounds are those of the Go implementation: 64 messages, 1 second. */
export const defaultLimits: Limits = {
  maxCalls: 4096,
  maxQueuedBytes: 8 << 20,
  maxStreamMessages: 64,
  maxStreamBytes: 8 << 20,
  stallMs: 1000,
};
