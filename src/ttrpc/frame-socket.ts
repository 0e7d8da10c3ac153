import type { Socket } from 'node:net';
import { type DecodedFrame, FrameDecoder } from './frame.ts';
import type { Limits } from './limits.ts';

/** One side of a connection: what is done with the frames that come in. */
export interface FrameHandler {
  /** Returns false when there is no room for the frame now; it is offered again after `FrameSocket.retry()`. */
  onFrame(frame: DecodedFrame): boolean;
  /** The frame has been refused for `stallMs`. It is offered once more afterwards and must then be taken. */
  onStalled(frame: DecodedFrame): void;
  /** Nothing more comes from the peer, because of the error if there is one. Called once. */
  onDisconnect(cause: Error | undefined): void;
}

/**
 * A socket as a sequence of frames. What is sent within one turn of the event loop leaves in one system call. Reading
 * stops while the handler has no room or the peer does not read what it was sent, so memory stays bounded.
 */
export class FrameSocket {
  /** Resolves when the socket is closed and its descriptor released; never rejects. */
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #handler: FrameHandler;
  readonly #limits: Limits;
  readonly #decoder = new FrameDecoder();
  #frames: DecodedFrame[] = [];
  #next = 0;
  #dispatching = false;
  #stall: { readonly frame: DecodedFrame; readonly timer: NodeJS.Timeout | undefined } | undefined;
  #drainWaiters: (() => void)[] = [];
  #corked = false;
  #stopped = false;
  #disconnected = false;
  #error: Error | undefined;

  constructor(socket: Socket, handler: FrameHandler, limits: Limits) {
    this.#socket = socket;
    this.#handler = handler;
    this.#limits = limits;
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#disconnect();
        resolve();
      });
    });
    socket.on('error', (error) => {
      this.#error = error;
    });
    socket.on('drain', () => this.#drained());
    socket.on('end', () => {
      this.#disconnect();
      socket.end();
    });
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    // A socket that was handed over may have been paused for the journey.
    socket.resume();
  }

  /** Bytes that have been sent but not yet taken by the kernel. */
  get queuedBytes(): number {
    return this.#socket.writableLength;
  }

  /** True when a sender should wait for `onceDrained` before it sends more. */
  get congested(): boolean {
    return this.#socket.writableNeedDrain;
  }

  /** Sends one whole frame; dropped silently when the connection is gone. */
  send(frame: Uint8Array): void {
    if (!this.#socket.writable) return;
    if (!this.#corked) {
      this.#corked = true;
      this.#socket.cork();
      process.nextTick(() => {
        this.#corked = false;
        this.#socket.uncork();
      });
    }
    this.#socket.write(frame);
  }

  /** Calls back once, when the kernel has taken everything. Not called when the connection goes away before. */
  onceDrained(callback: () => void): void {
    this.#drainWaiters.push(callback);
  }

  /** Offers the frame that the handler had no room for once more. */
  retry(): void {
    if (this.#stall !== undefined) this.#dispatch();
  }

  /**
   * Stops reading, waits at most `graceMs` until what was sent is with the kernel, then closes the socket. What is
   * sent in the current turn of the event loop still counts.
   */
  async close(graceMs: number): Promise<void> {
    this.#stopReading();
    await new Promise((resolve) => setImmediate(resolve));
    const timer = setTimeout(() => this.#socket.destroy(), graceMs);
    this.#socket.end(() => this.#socket.destroy());
    await this.closed;
    clearTimeout(timer);
  }

  destroy(): void {
    this.#stopReading();
    this.#socket.destroy();
  }

  #stopReading(): void {
    this.#stopped = true;
    this.#endStall();
    this.#frames = [];
    this.#next = 0;
    this.#socket.pause();
  }

  #read(chunk: Buffer): void {
    if (this.#stopped) return;
    const frames = this.#decoder.push(chunk);
    if (this.#next === this.#frames.length) {
      this.#frames = frames;
      this.#next = 0;
    } else {
      for (const frame of frames) this.#frames.push(frame);
    }
    this.#dispatch();
  }

  #dispatch(): void {
    if (this.#dispatching) return;
    this.#dispatching = true;
    const room = this.#offerAll();
    this.#dispatching = false;
    if (this.#stopped) return;
    if (room) {
      this.#frames = [];
      this.#next = 0;
      if (this.#socket.isPaused()) this.#socket.resume();
    } else {
      this.#socket.pause();
    }
  }

  /** True when every frame was taken and more may come. */
  #offerAll(): boolean {
    for (;;) {
      if (this.#socket.writableLength > this.#limits.maxQueuedBytes) return false;
      const frame = this.#frames[this.#next];
      if (frame === undefined) return true;
      if (!this.#handler.onFrame(frame)) {
        if (!this.#stopped) this.#beginStall(frame);
        return false;
      }
      this.#next += 1;
      this.#endStall();
    }
  }

  #beginStall(frame: DecodedFrame): void {
    if (this.#stall?.frame === frame) return;
    const { stallMs } = this.#limits;
    const onTimeout = (): void => {
      this.#handler.onStalled(frame);
      this.#dispatch();
    };
    this.#stall = { frame, timer: stallMs === Infinity ? undefined : setTimeout(onTimeout, stallMs) };
  }

  #endStall(): void {
    clearTimeout(this.#stall?.timer);
    this.#stall = undefined;
  }

  #drained(): void {
    const waiters = this.#drainWaiters;
    this.#drainWaiters = [];
    for (const waiter of waiters) waiter();
    if (!this.#stopped && this.#socket.isPaused()) this.#dispatch();
  }

  #disconnect(): void {
    if (this.#disconnected) return;
    this.#disconnected = true;
    this.#stopReading();
    this.#drainWaiters = [];
    this.#handler.onDisconnect(this.#error);
  }
}
