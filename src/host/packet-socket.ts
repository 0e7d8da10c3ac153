import { closeSync, readSync, writeSync } from 'node:fs';
import { VmError } from '../core/errors.ts';
import { FrameBudget } from './frame-budget.ts';
import { errnoName, withErrno } from './linux-errno.ts';
import type { Native } from './native.ts';
import { inNetworkNamespace } from './network-namespace.ts';

/** Longer frames are cut to this by the filter's return value, which whoever makes the filter chooses. */
export const MAX_FRAME_BYTES = 4096;

/** SO_RCVBUF: the kernel keeps twice that much, some 60 small frames, and drops the rest. */
const RECEIVE_BUFFER = 32 * 1024;

export interface PacketSocketOptions {
  /** Such as a VM's TAP. */
  readonly ifName: string;
  /** Path of the network namespace the interface is in; ours when absent. */
  readonly netns?: string;
  /** Array of struct sock_filter (linux/filter.h): what it returns 0 for never wakes us up. */
  readonly filter: Uint8Array;
  /** Mark on what is sent, for filters of this machine; none when absent. */
  readonly mark?: number;
  /** How many frames are looked at in each `windowMs`; when they are used up the kernel keeps or drops the others. */
  readonly budget: { readonly frames: number; readonly windowMs: number };
  /** One frame from its destination address on. The bytes are valid during the call only. Must not throw. */
  readonly onFrame: (frame: Uint8Array) => void;
  /** The budget is used up. Told once per window. */
  readonly onFlood?: () => void;
  /** The socket broke and is closed; the interface going down, or away, is no such case. */
  readonly onError?: (error: VmError) => void;
}

/** A packet(7) socket on one interface. It does not keep the event loop alive. */
export interface PacketSocket extends Disposable {
  /** False when the kernel did not take the frame: the interface is down or gone, or its queue is full. */
  send(frame: Uint8Array): boolean;
  /** Idempotent. */
  close(): void;
}

/**
 * Sees the frames that come in by the interface before a bridge, tc or nftables sees them, and nothing that goes out of
 * it. Throws NotFound when the interface or the namespace is not there, PermissionDenied without CAP_NET_RAW.
 *
 * Node's event loop waits for the descriptor itself (`watchReadable`), so nothing runs until a frame has passed the
 * filter, and the only queue is the kernel's.
 */
export function openPacketSocket(native: Native, options: PacketSocketOptions): PacketSocket {
  const open = (): number =>
    withErrno(`open a packet socket on ${options.ifName}`, () =>
      native.packetSocket(options.ifName, options.filter, RECEIVE_BUFFER),
    );
  const fd = options.netns === undefined ? open() : inNetworkNamespace(native, options.netns, open);
  try {
    const { mark } = options;
    if (mark !== undefined) withErrno('mark a packet socket', () => native.setMark(fd, mark));
    return new LinuxPacketSocket(native, fd, options);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

class LinuxPacketSocket implements PacketSocket {
  readonly #native: Native;
  readonly #fd: number;
  readonly #options: PacketSocketOptions;
  readonly #budget: FrameBudget;
  readonly #buffer = new Uint8Array(MAX_FRAME_BYTES);
  #watched = false;
  #closed = false;
  #rest: NodeJS.Timeout | undefined;

  constructor(native: Native, fd: number, options: PacketSocketOptions) {
    this.#native = native;
    this.#fd = fd;
    this.#options = options;
    this.#budget = new FrameBudget(options.budget.frames, options.budget.windowMs);
    this.#watch();
  }

  send(frame: Uint8Array): boolean {
    if (this.#closed) return false;
    try {
      return writeSync(this.#fd, frame) === frame.length;
    } catch (error) {
      if (errnoName(error) === undefined) throw error;
      return false;
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#rest);
    this.#unwatch();
    closeSync(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #watch(): void {
    withErrno('watch a packet socket', () =>
      this.#native.watchReadable(this.#fd, (failed) => this.#ready(failed)),
    );
    this.#watched = true;
  }

  #unwatch(): void {
    if (this.#watched) this.#native.unwatch(this.#fd);
    this.#watched = false;
  }

  // One frame per turn of the event loop: whatever else waits gets its turn between two frames of a flood.
  #ready(failed: boolean): void {
    const wait = this.#budget.take(performance.now());
    if (wait > 0) {
      this.#pause(wait);
      this.#options.onFlood?.();
      return;
    }
    const outcome = this.#readFrame();
    if (outcome instanceof VmError) {
      this.close();
      this.#options.onError?.(outcome);
    } else if (failed && !this.#closed) {
      this.#unwatch();
      this.#watch();
    }
  }

  #pause(ms: number): void {
    this.#unwatch();
    // A timer counts whole milliseconds and may be early by a part of one.
    this.#rest = setTimeout(() => this.#watch(), Math.ceil(ms) + 1).unref();
  }

  #readFrame(): VmError | undefined {
    let length: number;
    try {
      length = readSync(this.#fd, this.#buffer, 0, MAX_FRAME_BYTES, null);
    } catch (error) {
      const name = errnoName(error);
      // ENETDOWN: the interface went down or away. It is told once; when the interface comes up, frames come again.
      if (name === 'EAGAIN' || name === 'EINTR' || name === 'ENETDOWN') return undefined;
      return VmError.from(error, `reading frames of ${this.#options.ifName}`);
    }
    this.#options.onFrame(this.#buffer.subarray(0, length));
    return undefined;
  }
}
