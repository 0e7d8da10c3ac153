import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { VmError } from '../core/errors.ts';
import { fromStatus } from '../ttrpc/status.ts';
import type { ContainerdMethod } from './containerd-methods.ts';

export const DEFAULT_CONTAINERD_ADDRESS = '/run/containerd/containerd.sock';

/** containerd sends up to 16 MiB per message. Source: its `defaults.DefaultMaxSendMsgSize`. */
const MAX_MESSAGE = 16 * 2 ** 20;

export interface ContainerdClientOptions {
  /** Path of containerd's gRPC socket. */
  readonly address: string;
  /** containerd's namespace, in which every call takes place. */
  readonly namespace: string;
}

export interface CallOptions {
  readonly signal: AbortSignal;
  /** A lease that what the call makes belongs to. */
  readonly lease?: string | undefined;
}

/**
 * containerd's gRPC API, for commands: grpc-js costs a start of the shim more than all its own code, so this module is
 * imported when a command needs it. Nothing is sent before the first call.
 *
 * Failed calls throw VmError with the kind of containerd's status and the address in the message: Unavailable when
 * containerd does not answer, Canceled when the signal is aborted.
 */
export class ContainerdClient implements Disposable {
  readonly namespace: string;
  readonly #address: string;
  readonly #client: Client;

  constructor({ address, namespace }: ContainerdClientOptions) {
    this.namespace = namespace;
    this.#address = address.replace(/^unix:\/\//, '');
    this.#client = new Client(`unix://${this.#address}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': MAX_MESSAGE,
      // A command is not a daemon: it says at once that nobody listens.
      'grpc.enable_retries': 0,
    });
  }

  /** One request, one answer. */
  async call<Request, Response>(
    method: ContainerdMethod<Request, Response>,
    request: Request,
    options: CallOptions,
  ): Promise<Response> {
    const { promise, resolve, reject } = Promise.withResolvers<Response>();
    const call = this.#client.makeUnaryRequest(
      method.path,
      encoder(method),
      method.decode,
      request,
      this.#metadata(options),
      (error: ServiceError | null, response?: Response) => {
        if (error === null && response !== undefined) resolve(response);
        else reject(this.#fault(error, options.signal));
      },
    );
    using _cancel = onAbort(options.signal, () => call.cancel());
    return await promise;
  }

  /** One request, a stream of answers. Leaving the loop early ends the call. */
  async *stream<Request, Response>(
    method: ContainerdMethod<Request, Response>,
    request: Request,
    options: CallOptions,
  ): AsyncGenerator<Response, void, void> {
    const call = this.#client.makeServerStreamRequest(
      method.path,
      encoder(method),
      method.decode,
      request,
      this.#metadata(options),
    );
    using _cancel = onAbort(options.signal, () => call.cancel());
    try {
      for await (const response of call) yield response as Response;
    } catch (error) {
      throw this.#fault(error, options.signal);
    } finally {
      // Without a listener, the error of a canceled call would end the process.
      call.on('error', () => undefined);
      call.cancel();
    }
  }

  /** Requests and answers at the same time. */
  duplex<Request, Response>(
    method: ContainerdMethod<Request, Response>,
    options: CallOptions,
  ): DuplexCall<Request, Response> {
    const call = this.#client.makeBidiStreamRequest(
      method.path,
      encoder(method),
      method.decode,
      this.#metadata(options),
    );
    const cancel = onAbort(options.signal, () => call.cancel());
    const { promise: ended, resolve, reject } = Promise.withResolvers<Response | undefined>();
    let last: Response | undefined;
    let wake = (): void => undefined;
    // Whoever sends learns of the end by its next send or by `end`.
    ended.catch(() => undefined);
    call.on('data', (response: Response) => {
      last = response;
    });
    call.on('drain', () => wake());
    call.on('error', (error) => reject(this.#fault(error, options.signal)));
    call.on('end', () => resolve(last));
    const over = ended.then(() => undefined);
    over.catch(() => undefined);
    return {
      async send(request) {
        // A call that has failed takes nothing more and never drains.
        if (call.destroyed || call.writableEnded) {
          await over;
          return;
        }
        if (call.write(request)) return;
        await Promise.race([new Promise<void>((resume) => (wake = resume)), over]);
      },
      async end() {
        call.end();
        return await ended;
      },
      [Symbol.dispose]() {
        cancel[Symbol.dispose]();
        call.cancel();
      },
    };
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }

  #metadata({ lease }: CallOptions): Metadata {
    const metadata = new Metadata();
    metadata.set('containerd-namespace', this.namespace);
    if (lease !== undefined) metadata.set('containerd-lease', lease);
    return metadata;
  }

  #fault(error: unknown, signal: AbortSignal): VmError {
    if (signal.aborted) return VmError.from(signal.reason);
    if (!isServiceError(error)) return VmError.from(error, `containerd at ${this.#address}`);
    const known = fromStatus({ code: error.code, message: error.details });
    if (known?.kind === 'Unavailable') {
      return new VmError(
        'Unavailable',
        `containerd does not answer at ${this.#address}; start it, or name its socket with --address`,
        { cause: error },
      );
    }
    return new VmError(known?.kind ?? 'Unknown', `containerd at ${this.#address}: ${error.details}`, {
      cause: error,
    });
  }
}

/** An open call in both directions. */
export interface DuplexCall<Request, Response> extends Disposable {
  /** Resolves when the next request may be sent; rejects when the call has failed. */
  send(request: Request): Promise<void>;
  /** No more requests: resolves with the last answer when containerd has ended the call. */
  end(): Promise<Response | undefined>;
}

function encoder<Request, Response>({
  encode,
}: ContainerdMethod<Request, Response>): (request: Request) => Buffer {
  return (request) => {
    const bytes = encode(request);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && 'details' in error && typeof error.code === 'number';
}

function onAbort(signal: AbortSignal, run: () => void): Disposable {
  if (signal.aborted) run();
  else signal.addEventListener('abort', run, { once: true });
  return { [Symbol.dispose]: () => signal.removeEventListener('abort', run) };
}
