import { createConnection, type Socket } from 'node:net';
import { VmError } from '../core/errors.ts';
import { type CallOptions, type ClientCall, StreamCall, UnaryCall, watchCall } from './client-call.ts';
import { encodeRequestFrame } from './envelope.ts';
import { type DecodedFrame, FrameFlag } from './frame.ts';
import { type FrameHandler, FrameSocket } from './frame-socket.ts';
import { defaultLimits, type Limits } from './limits.ts';
import { Channel, type StreamChannel } from './stream.ts';

export interface ConnectOptions extends Partial<Limits> {
  readonly signal?: AbortSignal | undefined;
}

export interface StreamOptions extends CallOptions {
  /** False for a stream on which only the server sends. Default true. */
  readonly clientStreaming?: boolean;
}

/** The client's end of a stream. Iterating it throws the stream's error. */
export interface ClientStream extends StreamChannel {
  /**
   * The final response's payload, undefined when the server ended the stream without one; rejects with the stream's
   * error. It may be left alone.
   */
  readonly response: Promise<Uint8Array | undefined>;
}

/** sun_path without its closing NUL; Node cuts longer paths off silently before version 24. */
const MAX_PATH_BYTES = 107;
const MAX_STREAM_ID = 0xffffffff;
const MAX_TIMEOUT_NANO = 2n ** 63n - 1n;

/** A ttrpc client on one connection (https://github.com/containerd/ttrpc/blob/main/PROTOCOL.md). */
export class TtrpcClient implements AsyncDisposable {
  readonly #limits: Limits;
  readonly #socket: FrameSocket;
  readonly #calls = new Map<number, ClientCall>();
  readonly #handler: FrameHandler = {
    onFrame: (frame) => this.#onFrame(frame),
    onStalled: (frame) => this.#onStalled(frame),
    onDisconnect: (cause) => this.#onDisconnect(cause),
  };
  #nextStreamId = 1;
  #lost: VmError | undefined;

  /** Takes over a connected socket. */
  constructor(socket: Socket, limits: Partial<Limits> = {}) {
    this.#limits = { ...defaultLimits, ...limits };
    this.#socket = new FrameSocket(socket, this.#handler, this.#limits);
  }

  /**
   * Connects to the Unix socket at `path`.
   * @throws VmError Unavailable when nobody answers there, InvalidArgument when the path is too long for a socket,
   * Canceled or DeadlineExceeded when the signal aborts.
   */
  static async connect(path: string, options: ConnectOptions = {}): Promise<TtrpcClient> {
    const { signal, ...limits } = options;
    const length = Buffer.byteLength(path);
    if (length === 0 || length > MAX_PATH_BYTES) {
      const text = `the socket path "${path}" has ${length} bytes; use one of 1 to ${MAX_PATH_BYTES}`;
      throw new VmError('InvalidArgument', text);
    }
    if (signal?.aborted === true) throw VmError.from(signal.reason);
    const socket = createConnection({ path });
    try {
      await connected(socket, path, signal);
    } catch (error) {
      socket.destroy();
      throw error;
    }
    return new TtrpcClient(socket, limits);
  }

  /** Resolves when the connection is closed, by whichever side; never rejects. */
  get closed(): Promise<void> {
    return this.#socket.closed;
  }

  /**
   * One request, one response.
   * @throws VmError of the kind that the server's status says; Unavailable when the connection is or gets closed;
   * Canceled or DeadlineExceeded by signal and timeout; ResourceExhausted when the payload is above 4 MiB.
   */
  call(service: string, method: string, payload: Uint8Array, options: CallOptions = {}): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const streamId = this.#send(0, service, method, payload, options);
      const watch = this.#watch(streamId, options);
      const onOver = (): void => {
        this.#calls.delete(streamId);
        watch?.[Symbol.dispose]();
      };
      this.#calls.set(streamId, new UnaryCall(resolve, reject, onOver));
    });
  }

  /**
   * Opens a stream; `payload` is its request.
   * @throws VmError as `call` does for what fails before the request is sent.
   */
  openStream(
    service: string,
    method: string,
    payload: Uint8Array,
    options: StreamOptions = {},
  ): ClientStream {
    const clientStreaming = options.clientStreaming ?? true;
    const flags = clientStreaming ? FrameFlag.remoteOpen : FrameFlag.remoteClosed;
    const streamId = this.#send(flags, service, method, payload, options);
    const channel = new Channel(streamId, this.#socket, this.#limits, { sendClosed: !clientStreaming });
    const watch = this.#watch(streamId, options);
    const call = new StreamCall(channel, () => {
      this.#calls.delete(streamId);
      watch?.[Symbol.dispose]();
    });
    this.#calls.set(streamId, call);
    return {
      response: call.response,
      send: (message) => channel.send(message),
      closeSend: () => channel.closeSend(),
      [Symbol.asyncIterator]: () => channel[Symbol.asyncIterator](),
    };
  }

  /** Closes the connection now; calls under way fail with Unavailable. */
  close(): void {
    this.#socket.destroy();
    this.#onDisconnect(undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.closed;
  }

  /** Sends the request and returns the id of its stream. */
  #send(flags: number, service: string, method: string, payload: Uint8Array, options: CallOptions): number {
    if (this.#lost !== undefined) throw this.#lost;
    if (options.signal?.aborted === true) throw VmError.from(options.signal.reason);
    const streamId = this.#nextStreamId;
    if (streamId > MAX_STREAM_ID) {
      throw new VmError('Unavailable', 'the connection has used up its stream ids; connect again');
    }
    const timeoutNano = toTimeoutNano(options.timeoutMs);
    const metadata = new Map(Object.entries(options.metadata ?? {}));
    const frame = encodeRequestFrame(streamId, flags, { service, method, payload, timeoutNano, metadata });
    this.#nextStreamId += 2;
    this.#socket.send(frame);
    return streamId;
  }

  #watch(streamId: number, options: CallOptions): Disposable | undefined {
    const { signal, timeoutMs } = options;
    const limited = timeoutMs !== undefined && timeoutMs !== Infinity;
    if (signal === undefined && !limited) return undefined;
    const deadline = limited ? performance.now() + timeoutMs : undefined;
    return watchCall(options, deadline, (error) => this.#calls.get(streamId)?.fail(error));
  }

  #onFrame(frame: DecodedFrame): boolean {
    const call = this.#calls.get(frame.streamId);
    if (call === undefined) return true;
    if (frame.kind === 'frame') return call.onFrame(frame);
    const text = `the server sent a frame of ${frame.length} bytes, which exceeds 4 MiB; ask for less at once`;
    call.fail(new VmError('ResourceExhausted', text));
    return true;
  }

  #onStalled(frame: DecodedFrame): void {
    const text = `stream ${frame.streamId} is full: its messages are not being received`;
    this.#calls.get(frame.streamId)?.fail(new VmError('ResourceExhausted', text));
  }

  #onDisconnect(cause: Error | undefined): void {
    if (this.#lost !== undefined) return;
    const detail = cause === undefined ? '' : ` (${cause.message})`;
    this.#lost = new VmError('Unavailable', `the ttrpc connection is closed${detail}; connect again`, {
      cause,
    });
    for (const call of [...this.#calls.values()]) call.fail(this.#lost);
  }
}

/** Nanoseconds for the wire, where 0 is no limit. A call whose time is over is not worth sending. */
function toTimeoutNano(timeoutMs: number | undefined): bigint {
  if (timeoutMs === undefined || timeoutMs === Infinity) return 0n;
  if (Number.isNaN(timeoutMs)) {
    throw new VmError('InvalidArgument', `timeoutMs is ${timeoutMs}; give a number of milliseconds`);
  }
  if (timeoutMs <= 0) {
    throw new VmError('DeadlineExceeded', `the call had ${timeoutMs} ms left, so it was not sent`);
  }
  const nano = BigInt(Math.ceil(timeoutMs * 1e6));
  return nano > MAX_TIMEOUT_NANO ? MAX_TIMEOUT_NANO : nano;
}

async function connected(socket: Socket, path: string, signal: AbortSignal | undefined): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  const onError = (cause: Error): void => {
    const text = `nobody answers at the ttrpc socket "${path}" (${cause.message}); check that its server runs`;
    reject(new VmError('Unavailable', text, { cause }));
  };
  const onAbort = (): void => reject(VmError.from(signal?.reason));
  const onConnect = (): void => resolve(undefined);
  socket.once('connect', onConnect);
  socket.once('error', onError);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    await promise;
  } finally {
    socket.off('connect', onConnect);
    socket.off('error', onError);
    signal?.removeEventListener('abort', onAbort);
  }
}
