import { createServer, type Server, type Socket } from 'node:net';
import { rmSync } from 'node:fs';
import { containerd } from '#wire';
import { VmError } from '../../src/core/errors.ts';
import { TtrpcServer } from '../../src/ttrpc/server.ts';
import type { Teardown } from './temp-dir.ts';

const { events, services } = containerd;
const SERVICE = 'containerd.services.events.ttrpc.v1.Events';

/** What containerd publishes for each topic. */
const MESSAGES: Readonly<Record<string, { decode(bytes: Uint8Array): object }>> = {
  'containerd.events.TaskCreate': events.TaskCreate,
  'containerd.events.TaskStart': events.TaskStart,
  'containerd.events.TaskOOM': events.TaskOOM,
  'containerd.events.TaskExit': events.TaskExit,
  'containerd.events.TaskDelete': events.TaskDelete,
  'containerd.events.TaskPaused': events.TaskPaused,
  'containerd.events.TaskResumed': events.TaskResumed,
};

/** One envelope, decoded. */
export interface ReceivedEvent {
  readonly namespace: string;
  readonly topic: string;
  readonly typeUrl: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly message: Readonly<Record<string, unknown>>;
  /** The namespace in the call's metadata. */
  readonly callNamespace: string | undefined;
}

/** containerd's event service on a socket of its own: records what a shim forwards, in order; can go away and come back. */
export class EventService {
  readonly path: string;
  readonly received: ReceivedEvent[] = [];
  /** Answers the next events with this error instead of taking them, until cleared. */
  refusal: VmError | undefined;
  #refused = 0;
  readonly #server = new TtrpcServer();
  readonly #sockets = new Set<Socket>();
  readonly #waiting = new Set<() => void>();
  #listener: Server | undefined;

  static async start(t: Teardown, path: string): Promise<EventService> {
    const service = new EventService(path);
    await service.listen();
    t.teardown(() => service.stop());
    return service;
  }

  constructor(path: string) {
    this.path = path;
    this.#server.addService(SERVICE, {
      Forward: {
        kind: 'unary',
        handle: (payload, call) => this.#take(payload, call.metadata.get('containerd-namespace-ttrpc')?.[0]),
      },
    });
  }

  async listen(): Promise<void> {
    const listener = createServer((socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      this.#server.handleConnection(socket);
    });
    this.#listener = listener;
    await new Promise<void>((resolve) => listener.listen(this.path, resolve));
  }

  /** As a killed containerd: connections are gone, the socket file refuses. */
  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    const listener = this.#listener;
    this.#listener = undefined;
    if (listener !== undefined) await new Promise((resolve) => listener.close(resolve));
    rmSync(this.path, { force: true });
  }

  /** Events of one container, in the order they came. */
  of(id: string): ReceivedEvent[] {
    return this.received.filter(({ message }) => message['containerId'] === id);
  }

  /** Topics of one container without their prefix, in the order they came. */
  topics(id: string): string[] {
    return this.of(id).map(({ topic }) => topic.replace('/tasks/', ''));
  }

  /** The first, or nth, event of a topic (`exit`) of a container, when it has come. */
  async until(topic: string, id: string, nth = 1): Promise<ReceivedEvent> {
    for (;;) {
      const event = this.of(id).filter((candidate) => candidate.topic === `/tasks/${topic}`)[nth - 1];
      if (event !== undefined) return event;
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  /** Resolves when one more event has been refused than when it was called. */
  async untilRefused(): Promise<void> {
    for (const before = this.#refused; this.#refused === before;) {
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  #take(payload: Uint8Array, callNamespace: string | undefined): Uint8Array {
    if (this.refusal !== undefined) {
      this.#refused++;
      this.#wake();
      throw this.refusal;
    }
    const { envelope } = services.events.ttrpc.v1.ForwardRequest.decode(payload);
    const typeUrl = envelope?.event?.typeUrl ?? '';
    const message = MESSAGES[typeUrl]?.decode(envelope?.event?.value ?? new Uint8Array());
    if (message === undefined) throw new VmError('InvalidArgument', `no event type "${typeUrl}"`);
    const { seconds, nanos } = envelope?.timestamp ?? {};
    this.received.push({
      namespace: envelope?.namespace ?? '',
      topic: envelope?.topic ?? '',
      typeUrl,
      at: (seconds ?? 0) * 1000 + (nanos ?? 0) / 1e6,
      message: message as Record<string, unknown>,
      callNamespace,
    });
    this.#wake();
    return new Uint8Array();
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}
