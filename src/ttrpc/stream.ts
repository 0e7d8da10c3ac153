import { VmError } from '../core/errors.ts';
import { encodeFrame, FrameFlag, FrameType } from './frame.ts';
import type { Limits } from './limits.ts';

/** A stream of messages in both directions, as a handler on the server and a caller on the client see it. */
export interface StreamChannel extends AsyncIterable<Uint8Array, undefined> {
  /**
   * Sends one message. Resolves when there is room for the next one.
   * @throws VmError FailedPrecondition after `closeSend` or the end of the stream, ResourceExhausted above 4 MiB, or
   * why the stream ended.
   */
  send(message: Uint8Array): Promise<void>;
  /** Tells the peer that no more messages come. From a server this ends the whole stream. */
  closeSend(): void;
}

/** The connection below a stream. */
export interface FrameSink {
  readonly congested: boolean;
  send(frame: Uint8Array): void;
  onceDrained(callback: () => void): void;
  /** There is room again for a message that was refused. */
  retry(): void;
}

type Outcome = { readonly error: VmError | undefined };

interface Settle<T> {
  resolve(value: T): void;
  reject(error: VmError): void;
}

/**
 * The same on both sides. Messages that have arrived are delivered before the end or the error of the stream. A
 * receiver that leaves its `for await` loop early wants no more messages: later ones are dropped.
 */
export class Channel implements StreamChannel {
  readonly #streamId: number;
  readonly #sink: FrameSink;
  readonly #limits: Limits;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #refused = false;
  #receivers: Settle<IteratorResult<Uint8Array, undefined>>[] = [];
  #senders: Settle<undefined>[] = [];
  #received: Outcome | undefined;
  #sendClosed: boolean;
  #finished: Outcome | undefined;

  constructor(streamId: number, sink: FrameSink, limits: Limits, options: { sendClosed?: boolean } = {}) {
    this.#sendClosed = options.sendClosed ?? false;
    this.#streamId = streamId;
    this.#sink = sink;
    this.#limits = limits;
  }

  /** True once our side said that it sends nothing more. */
  get sendClosed(): boolean {
    return this.#sendClosed;
  }

  /** A message from the peer. Returns false when the queue is full; messages after the end are dropped. */
  offer(message: Uint8Array): boolean {
    if (this.#received !== undefined) return true;
    const receiver = this.#receivers.shift();
    if (receiver !== undefined) {
      receiver.resolve({ done: false, value: message });
      return true;
    }
    const full =
      this.#queue.length >= this.#limits.maxStreamMessages ||
      (this.#queue.length > 0 && this.#queuedBytes + message.byteLength > this.#limits.maxStreamBytes);
    if (full) {
      this.#refused = true;
      return false;
    }
    this.#queue.push(message);
    this.#queuedBytes += message.byteLength;
    return true;
  }

  /** The peer sends nothing more. */
  endReceive(error?: VmError): void {
    if (this.#received !== undefined) return;
    this.#received = { error };
    const receivers = this.#receivers;
    this.#receivers = [];
    for (const receiver of receivers) {
      if (error === undefined) receiver.resolve({ done: true, value: undefined });
      else receiver.reject(error);
    }
    this.#makeRoom();
  }

  /** The stream is over in both directions, without an error when none is given. */
  finish(error?: VmError): void {
    if (this.#finished !== undefined) return;
    this.#finished = { error };
    this.endReceive(error);
    const senders = this.#senders;
    this.#senders = [];
    for (const sender of senders) sender.reject(this.#sendError());
  }

  send(message: Uint8Array): Promise<void> {
    if (this.#sendClosed || this.#finished !== undefined) return Promise.reject(this.#sendError());
    try {
      this.#sink.send(encodeFrame(this.#streamId, FrameType.data, 0, message));
    } catch (error) {
      return Promise.reject(VmError.from(error));
    }
    if (!this.#sink.congested) return Promise.resolve();
    return new Promise((resolve, reject) => {
      if (this.#senders.length === 0) this.#sink.onceDrained(() => this.#releaseSenders());
      this.#senders.push({ resolve, reject });
    });
  }

  closeSend(): void {
    if (this.#sendClosed || this.#finished !== undefined) return;
    this.#sendClosed = true;
    const flags = FrameFlag.remoteClosed | FrameFlag.noData;
    this.#sink.send(encodeFrame(this.#streamId, FrameType.data, flags));
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array, undefined> {
    return {
      next: () => this.#next(),
      return: () => {
        this.#queue = [];
        this.#queuedBytes = 0;
        this.endReceive();
        this.#makeRoom();
        return Promise.resolve({ done: true, value: undefined });
      },
    };
  }

  #next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const message = this.#queue.shift();
    if (message !== undefined) {
      this.#queuedBytes -= message.byteLength;
      this.#makeRoom();
      return Promise.resolve({ done: false, value: message });
    }
    if (this.#received === undefined) {
      return new Promise((resolve, reject) => this.#receivers.push({ resolve, reject }));
    }
    if (this.#received.error !== undefined) return Promise.reject(this.#received.error);
    return Promise.resolve({ done: true, value: undefined });
  }

  #makeRoom(): void {
    if (!this.#refused) return;
    this.#refused = false;
    this.#sink.retry();
  }

  #releaseSenders(): void {
    const senders = this.#senders;
    this.#senders = [];
    for (const sender of senders) sender.resolve(undefined);
  }

  #sendError(): VmError {
    return (
      this.#finished?.error ??
      new VmError('FailedPrecondition', `stream ${this.#streamId} is closed for sending; open a new stream`)
    );
  }
}
