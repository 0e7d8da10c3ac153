import type { Server, Socket } from 'node:net';
import { VmError } from '../core/errors.ts';
import { defaultLimits, type Limits } from './limits.ts';
import type { MethodDefinition } from './method.ts';
import { ServerConnection } from './server-connection.ts';

export type { CallContext, MethodDefinition } from './method.ts';
export type { StreamChannel } from './stream.ts';

export interface TtrpcServerOptions extends Partial<Limits> {
  /** Called after a connection came or went, with the number that is left. */
  readonly onConnectionsChanged?: (count: number) => void;
}

/**
 * A ttrpc server (https://github.com/containerd/ttrpc/blob/main/PROTOCOL.md) on connections that others accept. It
 * never closes a listener: `net.Server.close()` unlinks the socket's path, which may already be a successor's.
 */
export class TtrpcServer implements AsyncDisposable {
  readonly #services = new Map<string, Map<string, MethodDefinition>>();
  readonly #connections = new Set<ServerConnection>();
  readonly #limits: Limits;
  readonly #onConnectionsChanged: ((count: number) => void) | undefined;
  #closing = false;

  constructor(options: TtrpcServerOptions = {}) {
    const { onConnectionsChanged, ...limits } = options;
    this.#limits = { ...defaultLimits, ...limits };
    this.#onConnectionsChanged = onConnectionsChanged;
  }

  get connectionCount(): number {
    return this.#connections.size;
  }

  /**
   * Offers the methods under the service's full name. Takes effect for connections that are open, too.
   * @throws VmError AlreadyExists when the name is taken.
   */
  addService(name: string, methods: Readonly<Record<string, MethodDefinition>>): void {
    if (this.#services.has(name)) {
      throw new VmError('AlreadyExists', `service ${name} is already offered; add each service once`);
    }
    this.#services.set(name, new Map(Object.entries(methods)));
  }

  /** Serves what the listener accepts from now on. The listener stays its owner's. */
  serve(listener: Server): void {
    listener.on('connection', (socket) => this.handleConnection(socket));
  }

  /** Serves one connected socket and owns it from now on. */
  handleConnection(socket: Socket): void {
    if (this.#closing || socket.destroyed) {
      // Its peer may reset it at any time, and nobody else listens for that.
      socket.on('error', () => undefined);
      socket.destroy();
      return;
    }
    const connection = new ServerConnection(socket, this.#services, this.#limits);
    this.#connections.add(connection);
    this.#onConnectionsChanged?.(this.#connections.size);
    void connection.closed.then(() => {
      this.#connections.delete(connection);
      this.#onConnectionsChanged?.(this.#connections.size);
    });
  }

  /**
   * Serves on until every client of now has closed its connection, or the signal is aborted. A client that asked this process
   * to end hangs up once it has its answer; hung up by us, its other calls would fail.
   */
  async clientsGone(signal: AbortSignal): Promise<void> {
    const { promise: aborted, resolve } = Promise.withResolvers<undefined>();
    signal.addEventListener('abort', () => resolve(undefined), { once: true });
    const gone = [...this.#connections].map((connection) => connection.closed);
    await Promise.race([Promise.all(gone), signal.aborted ? undefined : aborted]);
  }

  /**
   * Stops reading, sends the responses that handlers have already returned or return in this turn of the event loop,
   * at most `graceMs` (default 1000) long, then closes every connection and aborts the calls that still run. New
   * connections are closed at once.
   */
  async close(options: { graceMs?: number } = {}): Promise<void> {
    this.#closing = true;
    const { graceMs = 1000 } = options;
    await Promise.all([...this.#connections].map((connection) => connection.close(graceMs)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
