import { createConnection, type Socket } from 'node:net';
import { type ErrorKind, VmError } from '../core/errors.ts';
import { loadNative } from '../host/native.ts';
import { socketFd } from '../host/socket-fd.ts';
import { encodeQmpCommand, type JsonObject, QmpDecoder } from './qmp-codec.ts';
import type { QmpEvent, QmpMessage, QmpVersion } from './qmp-codec.ts';
import { QmpListener } from './qmp-listener.ts';

export type QmpEventHandler = (event: QmpEvent) => void;

export interface QmpConnectOptions {
  readonly signal?: AbortSignal;
  /** Sees every event from the first one on; a handler added after connect() could miss those that follow at once. */
  readonly onEvent?: QmpEventHandler;
}

type State =
  | { readonly kind: 'connecting'; readonly greeted: PromiseWithResolvers<QmpVersion> }
  | { readonly kind: 'open'; readonly version: QmpVersion }
  | { readonly kind: 'closed'; readonly version: QmpVersion | undefined; readonly reason: string };

interface PendingCall {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly fail: (error: VmError) => void;
}

/**
 * One connection to QEMU's machine protocol (`docs/interop/qmp-spec`). Commands may run at the same time; QEMU
 * answers in its own order and each answer finds its call by id. It never reconnects: whether QEMU still lives is
 * the process owner's question.
 */
export class QmpClient implements Disposable {
  /** Resolves once the connection is over: undefined after an orderly end of either side, else what broke it. */
  readonly closed: Promise<Error | undefined>;
  readonly #socket: Socket;
  readonly #decoder = new QmpDecoder();
  readonly #pending = new Map<number, PendingCall>();
  readonly #listeners = new Set<QmpListener>();
  readonly #handlers = new Set<QmpEventHandler>();
  readonly #resolveClosed: (error: Error | undefined) => void;
  #nextId = 1;
  #fdTurn: Promise<undefined> = Promise.resolve(undefined);
  #state: State;

  /**
   * Connects and negotiates capabilities. Throws Unavailable when nobody listens there or the peer is not QEMU,
   * Canceled or DeadlineExceeded by `signal`.
   */
  static async connect(path: string, options: QmpConnectOptions = {}): Promise<QmpClient> {
    const { signal, onEvent } = options;
    const context = `cannot speak QMP on ${path}`;
    if (isAborted(signal)) throw VmError.from(signal?.reason, context);
    const greeted = Promise.withResolvers<QmpVersion>();
    const client = new QmpClient(createConnection({ path }), greeted);
    if (onEvent !== undefined) client.#handlers.add(onEvent);
    const abort = (): void => client.#end(VmError.from(signal?.reason));
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const version = await greeted.promise;
      client.#state = { kind: 'open', version };
      await client.execute('qmp_capabilities');
      return client;
    } catch (error) {
      client.#end(VmError.from(error));
      if (isAborted(signal)) throw VmError.from(signal?.reason, context);
      throw new VmError('Unavailable', `${context}: ${VmError.from(error).message}`, { cause: error });
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  private constructor(socket: Socket, greeted: PromiseWithResolvers<QmpVersion>) {
    const closed = Promise.withResolvers<Error | undefined>();
    this.closed = closed.promise;
    this.#resolveClosed = closed.resolve;
    this.#state = { kind: 'connecting', greeted };
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      for (const message of this.#decoder.push(chunk)) this.#receive(message);
    });
    socket.on('error', (error) => {
      // A QEMU that ends with bytes of ours unread, even the line end after `quit`, resets the connection.
      if ('code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE')) this.#peerEnded();
      else this.#end(error);
    });
    socket.on('end', () => this.#peerEnded());
    socket.on('close', () => this.#end(undefined, 'the QMP connection is closed'));
  }

  /** QEMU's version by its greeting. */
  get version(): QmpVersion {
    const version = this.#state.kind === 'connecting' ? undefined : this.#state.version;
    if (version === undefined) throw new VmError('FailedPrecondition', 'QEMU has not sent its QMP greeting');
    return version;
  }

  /**
   * Runs one command and resolves to its `return` value. Throws Unavailable when the connection ends first; what
   * QEMU refuses, by its error class: Unimplemented (CommandNotFound), NotFound (DeviceNotFound), FailedPrecondition
   * (DeviceNotActive, KVMMissingCap), else Internal. An abort of `signal` rejects at once; QEMU may still run the
   * command. The error's stack is the caller's.
   */
  execute(command: string, args?: JsonObject, options: { signal?: AbortSignal } = {}): Promise<unknown> {
    return this.#call(command, args, options, (bytes) => void this.#socket.write(bytes));
  }

  /**
   * `execute` of a command that takes a descriptor (getfd, add-fd): QEMU gets a copy of `fd`, which must stay open until
   * this settles. One at a time, because QEMU keeps only the newest descriptor that it has not been asked for.
   */
  async executeWithFd(
    command: string,
    args: JsonObject,
    fd: number,
    options: { signal?: AbortSignal } = {},
  ): Promise<unknown> {
    const turn = this.#fdTurn;
    const done = Promise.withResolvers<undefined>();
    this.#fdTurn = done.promise;
    await turn;
    try {
      // What is queued must have left first, or this would arrive in the middle of it; a line end means nothing.
      await new Promise((resolve) => this.#socket.write('\n', resolve));
      return await this.#call(command, args, options, (bytes) => {
        const sent = loadNative().sendFds(socketFd(this.#socket), Buffer.from(bytes), [fd]);
        this.#socket.write(Buffer.from(bytes).subarray(sent));
      });
    } finally {
      done.resolve(undefined);
    }
  }

  #call(
    command: string,
    args: JsonObject | undefined,
    { signal }: { signal?: AbortSignal },
    send: (bytes: string | Uint8Array) => void,
  ): Promise<unknown> {
    // The caller's frames: by the time QEMU answers, only the socket's are left.
    const site: { stack?: string } = {};
    Error.captureStackTrace(site);
    const context = `QMP command "${command}"`;
    if (isAborted(signal)) return Promise.reject(stamp(VmError.from(signal?.reason, context), site));
    if (this.#state.kind === 'closed') {
      const error = new VmError('Unavailable', `${context} cannot be sent: ${this.#state.reason}`);
      return Promise.reject(stamp(error, site));
    }
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        this.#pending.delete(id);
        reject(stamp(VmError.from(signal?.reason, context), site));
      };
      const settle = (): void => signal?.removeEventListener('abort', abort);
      this.#pending.set(id, {
        command,
        resolve: (value) => {
          settle();
          resolve(value);
        },
        fail: (error) => {
          settle();
          reject(stamp(error, site));
        },
      });
      signal?.addEventListener('abort', abort, { once: true });
      try {
        send(encodeQmpCommand(command, args, id));
      } catch (error) {
        this.#take(id)?.fail(VmError.from(error, context));
      }
    });
  }

  /** Collects events of these names from now on; dispose it when they are of no more interest. */
  listen(names: readonly string[], options: { limit?: number } = {}): QmpListener {
    const listener = new QmpListener(names, (self) => this.#listeners.delete(self), options.limit);
    if (this.#state.kind === 'closed') listener.end(new VmError('Unavailable', this.#state.reason));
    else this.#listeners.add(listener);
    return listener;
  }

  /** Calls `handler`, which must not throw, for every event until disposed. */
  onEvent(handler: QmpEventHandler): Disposable {
    this.#handlers.add(handler);
    return { [Symbol.dispose]: () => this.#handlers.delete(handler) };
  }

  /** Ends the connection, not QEMU; pending calls are rejected. */
  close(): void {
    this.#end(undefined, 'the QMP connection was closed');
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #receive(message: QmpMessage): void {
    switch (message.kind) {
      case 'greeting':
        if (this.#state.kind === 'connecting') this.#state.greeted.resolve(message.version);
        return;
      case 'event':
        for (const handler of this.#handlers) handler(message);
        for (const listener of this.#listeners) listener.deliver(message);
        return;
      case 'reply':
        this.#take(message.id)?.resolve(message.value);
        return;
      case 'error': {
        // QEMU leaves out the id of a command it could not read. It answers in order, so that was the oldest one.
        const call = this.#take(message.id === undefined ? this.#pending.keys().next().value : message.id);
        call?.fail(refusal(call.command, message.errorClass, message.desc));
        return;
      }
      case 'invalid':
        this.#end(message.error);
        return;
      case 'unknown':
        return;
    }
  }

  /** The call of an id; none for ids of aborted calls and those that we never gave, which the spec lets us ignore. */
  #take(id: unknown): PendingCall | undefined {
    if (typeof id !== 'number') return undefined;
    const call = this.#pending.get(id);
    this.#pending.delete(id);
    return call;
  }

  #peerEnded(): void {
    const reason = 'QEMU closed the QMP connection';
    const cut = this.#decoder.midMessage;
    this.#end(cut ? new VmError('Unavailable', `${reason} inside a message`) : undefined, reason);
  }

  #end(error: Error | undefined, reason = error?.message ?? 'the QMP connection is closed'): void {
    if (this.#state.kind === 'closed') return;
    const before = this.#state;
    this.#state = {
      kind: 'closed',
      version: before.kind === 'open' ? before.version : undefined,
      reason,
    };
    this.#socket.destroy();
    const cause = error === undefined ? {} : { cause: error };
    if (before.kind === 'connecting') before.greeted.reject(new VmError('Unavailable', reason, cause));
    for (const call of this.#pending.values()) {
      const text = `QMP command "${call.command}" was not answered: ${reason}`;
      call.fail(new VmError('Unavailable', text, cause));
    }
    this.#pending.clear();
    for (const listener of this.#listeners) listener.end(new VmError('Unavailable', reason, cause));
    this.#handlers.clear();
    this.#resolveClosed(error);
  }
}

/** Asked through a function because TypeScript takes the answer before an `await` for the one after it. */
function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}

const kindOfClass: Readonly<Record<string, ErrorKind>> = {
  CommandNotFound: 'Unimplemented',
  DeviceNotFound: 'NotFound',
  DeviceNotActive: 'FailedPrecondition',
  KVMMissingCap: 'FailedPrecondition',
};

function refusal(command: string, errorClass: string, desc: string): VmError {
  const kind = Object.hasOwn(kindOfClass, errorClass) ? kindOfClass[errorClass] : undefined;
  return new VmError(kind ?? 'Internal', `QEMU refused QMP command "${command}": ${desc}`);
}

/** Gives an error the stack of another place. */
function stamp(error: VmError, site: { readonly stack?: string }): VmError {
  const frames = site.stack ?? '';
  error.stack = `${error.name}: ${error.message}${frames.slice(frames.indexOf('\n'))}`;
  return error;
}
