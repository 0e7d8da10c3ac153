import type { Socket } from 'node:net';
import { VmError } from '../core/errors.ts';
import { decodeRequest, encodeResponseFrame, type Request } from './envelope.ts';
import { type DecodedFrame, type Frame, FrameFlag, FrameType } from './frame.ts';
import { type FrameHandler, FrameSocket } from './frame-socket.ts';
import type { Limits } from './limits.ts';
import type { MethodDefinition, Services, StreamMethod, UnaryMethod } from './method.ts';
import { ServerCall } from './server-call.ts';
import { toStatus } from './status.ts';
import { Channel } from './stream.ts';

const NO_BYTES = Buffer.alloc(0);
const UNREAD_ANSWERS = 'too many answers wait unread on this connection; read them before making more calls';

/** The calls of one client. Nothing that the client sends makes it throw. */
export class ServerConnection implements FrameHandler {
  readonly #services: Services;
  readonly #limits: Limits;
  readonly #socket: FrameSocket;
  /** Calls that still need an answer. */
  readonly #calls = new Map<number, ServerCall>();
  /** Handlers that have not returned, those of calls that are over included. */
  #running = 0;
  #lastStreamId = 0;

  constructor(socket: Socket, services: Services, limits: Limits) {
    this.#services = services;
    this.#limits = limits;
    this.#socket = new FrameSocket(socket, this, limits);
  }

  /** Resolves when the socket is closed. */
  get closed(): Promise<void> {
    return this.#socket.closed;
  }

  /** Reads no more, sends the responses that are there, closes the socket and aborts what still runs. */
  async close(graceMs: number): Promise<void> {
    await this.#socket.close(graceMs);
  }

  onFrame(frame: DecodedFrame): boolean {
    switch (frame.type) {
      case FrameType.request:
        this.#onRequest(frame);
        return true;
      case FrameType.data:
        return this.#onData(frame);
      default:
        return true;
    }
  }

  onStalled(frame: DecodedFrame): void {
    this.#endStream(
      frame.streamId,
      new VmError(
        'ResourceExhausted',
        `stream ${frame.streamId} is full: its messages are not being received`,
      ),
    );
  }

  onDisconnect(cause: Error | undefined): void {
    const error = new VmError('Canceled', 'the client has closed the connection', { cause });
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const call of calls) call.abort(error);
  }

  #onRequest(frame: DecodedFrame): void {
    try {
      this.#takeStreamId(frame.streamId);
      if (frame.kind === 'oversize') throw oversizeError(frame.length);
      this.#start(frame);
    } catch (error) {
      this.#fail(frame.streamId, error);
    }
  }

  #takeStreamId(streamId: number): void {
    if (streamId % 2 === 0) {
      throw new VmError('InvalidArgument', `stream id ${streamId} is even; clients use odd ids`);
    }
    if (streamId <= this.#lastStreamId) {
      const text = `stream id ${streamId} is not above ${this.#lastStreamId}, the last one; ids must increase`;
      throw new VmError('InvalidArgument', text);
    }
    this.#lastStreamId = streamId;
  }

  #start(frame: Frame): void {
    if (this.#running >= this.#limits.maxCalls) {
      const text = `${this.#running} calls are under way on this connection; wait for some to end`;
      throw new VmError('ResourceExhausted', text);
    }
    const request = decodeRequest(frame.data);
    const method = this.#findMethod(request);
    if (request.timeoutNano < 0n) {
      throw new VmError('DeadlineExceeded', 'the deadline had passed before the call arrived');
    }
    if (method.kind === 'unary') this.#startUnary(method, request, frame.streamId);
    else this.#startStream(method, request, frame);
  }

  #findMethod(request: Request): MethodDefinition {
    const service = this.#services.get(request.service);
    if (service === undefined) throw new VmError('Unimplemented', `service ${request.service}`);
    const method = service.get(request.method);
    if (method === undefined) {
      throw new VmError('Unimplemented', `method ${request.method} of ${request.service}`);
    }
    return method;
  }

  #startUnary(method: UnaryMethod, request: Request, streamId: number): void {
    const call = new ServerCall(streamId, request.metadata, deadlineOf(request), undefined);
    const result = method.handle(request.payload, call);
    if (result instanceof Uint8Array) this.#respond(streamId, result);
    // Whatever an untyped handler returns, a promise comes out.
    else this.#watch(call, Promise.resolve(result));
  }

  #startStream(method: StreamMethod, request: Request, frame: Frame): void {
    const channel = new Channel(frame.streamId, this.#socket, this.#limits);
    if ((frame.flags & FrameFlag.remoteOpen) === 0) channel.endReceive();
    const call = new ServerCall(frame.streamId, request.metadata, deadlineOf(request), channel);
    // Data frames may follow in the same chunk, so the handler is started at once, as an async function would.
    this.#watch(call, startHandler(method, request.payload, channel, call));
  }

  #watch(call: ServerCall, result: Promise<Uint8Array | undefined>): void {
    this.#running += 1;
    this.#calls.set(call.streamId, call);
    call.watchDeadline((reason) => this.#abort(call, reason));
    result.then(
      (payload) => {
        this.#running -= 1;
        this.#settle(call, () => this.#succeed(call, payload));
      },
      (error: unknown) => {
        this.#running -= 1;
        this.#settle(call, () => {
          if (call.channel?.sendClosed !== true) this.#fail(call.streamId, error);
        });
      },
    );
  }

  #settle(call: ServerCall, answer: () => void): void {
    if (call.over) return;
    this.#calls.delete(call.streamId);
    answer();
    call.complete();
  }

  #succeed(call: ServerCall, payload: Uint8Array | undefined): void {
    if (call.channel === undefined) this.#respond(call.streamId, payload ?? NO_BYTES);
    else if (payload === undefined) call.channel.closeSend();
    else if (!call.channel.sendClosed) this.#respond(call.streamId, payload);
  }

  #onData(frame: DecodedFrame): boolean {
    const { streamId } = frame;
    const channel = this.#calls.get(streamId)?.channel;
    if (channel === undefined) return true;
    if (frame.kind === 'oversize') {
      this.#endStream(streamId, oversizeError(frame.length));
      return true;
    }
    const closes = (frame.flags & FrameFlag.remoteClosed) !== 0;
    if (closes && frame.data.byteLength > 0) {
      const text = `the frame that closes stream ${streamId} carries data; send data and close apart`;
      this.#endStream(streamId, new VmError('InvalidArgument', text));
      return true;
    }
    if ((frame.flags & FrameFlag.noData) === 0 && !channel.offer(frame.data)) return false;
    if (closes) channel.endReceive();
    return true;
  }

  #endStream(streamId: number, error: VmError): void {
    const call = this.#calls.get(streamId);
    if (call !== undefined) this.#abort(call, error);
  }

  /** Answers the call with the error now and tells its handler to stop. */
  #abort(call: ServerCall, reason: Error): void {
    this.#calls.delete(call.streamId);
    if (call.channel?.sendClosed !== true) this.#fail(call.streamId, reason);
    call.abort(reason);
  }

  #respond(streamId: number, payload: Uint8Array): void {
    try {
      if (payload.byteLength > 0 && this.#socket.queuedBytes > 8 * this.#limits.maxQueuedBytes) {
        throw new VmError('ResourceExhausted', UNREAD_ANSWERS);
      }
      this.#socket.send(encodeResponseFrame(streamId, { status: undefined, payload }));
    } catch (error) {
      this.#fail(streamId, error);
    }
  }

  #fail(streamId: number, error: unknown): void {
    const { code, message } = toStatus(error);
    // A message is for people; one of megabytes would only fail to fit in a frame.
    const status = { code, message: message.slice(0, 64 << 10) };
    this.#socket.send(encodeResponseFrame(streamId, { status, payload: NO_BYTES }));
  }
}

async function startHandler(
  method: StreamMethod,
  request: Uint8Array,
  channel: Channel,
  call: ServerCall,
): Promise<Uint8Array | undefined> {
  return await method.handle(request, channel, call);
}

function deadlineOf(request: Request): number | undefined {
  return request.timeoutNano === 0n ? undefined : performance.now() + Number(request.timeoutNano) / 1e6;
}

function oversizeError(length: number): VmError {
  return new VmError('ResourceExhausted', `a frame of ${length} bytes exceeds 4 MiB; send less at once`);
}
