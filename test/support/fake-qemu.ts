import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { type Teardown, tempDir } from './temp-dir.ts';

/** What the fake answers to a command; `silence` leaves it unanswered. */
export type FakeReply =
  | { readonly return: unknown }
  | { readonly error: { readonly class: string; readonly desc: string } }
  | 'silence';

export interface FakeCommand {
  readonly execute: string;
  readonly arguments?: Record<string, unknown>;
  readonly id?: unknown;
}

export const qemu72Greeting = {
  QMP: {
    version: { qemu: { major: 7, minor: 2, micro: 22 }, package: 'Debian 1:7.2' },
    capabilities: ['oob'],
  },
};

/**
 * A QMP server on a unix socket that does what a test scripts: answers by command name, or by the test's own hand with
 * `send`. One connection at a time, as with a real monitor. It stops with its test.
 */
export class FakeQemu {
  readonly path: string;
  /** Every command received, in order. */
  readonly commands: FakeCommand[] = [];
  /** Resolves when a client has connected. */
  readonly connected: Promise<undefined>;
  readonly #server: Server;
  readonly #replies = new Map<string, (command: FakeCommand) => FakeReply>();
  readonly #greeting: unknown;
  readonly #arrivals: { readonly name: string; readonly arrived: PromiseWithResolvers<FakeCommand> }[] = [];
  #socket: Socket | undefined;

  /** Greets with `greeting`, or with nothing where that is undefined. */
  static async start(
    t: Teardown,
    options: { greeting?: unknown } = { greeting: qemu72Greeting },
  ): Promise<FakeQemu> {
    const fake = new FakeQemu(join(tempDir(t), 'qmp.sock'), options.greeting);
    await new Promise<void>((resolve) => fake.#server.listen(fake.path, resolve));
    t.teardown(() => fake.stop());
    return fake;
  }

  private constructor(path: string, greeting: unknown) {
    this.path = path;
    this.#greeting = greeting;
    this.on('qmp_capabilities', () => ({ return: {} }));
    const connected = Promise.withResolvers<undefined>();
    this.connected = connected.promise;
    this.#server = createServer((socket) => {
      this.#socket = socket;
      connected.resolve(undefined);
      socket.on('error', () => undefined);
      let text = '';
      socket.on('data', (chunk: Buffer) => {
        const lines = (text + chunk.toString('utf8')).split('\r\n');
        text = lines.pop() ?? '';
        for (const line of lines) this.#receive(JSON.parse(line) as FakeCommand);
      });
      if (greeting !== undefined) this.send(this.#greeting);
    });
  }

  on(command: string, reply: (command: FakeCommand) => FakeReply): void {
    this.#replies.set(command, reply);
  }

  /** The next command of that name to come. */
  arrival(name: string): Promise<FakeCommand> {
    const arrived = Promise.withResolvers<FakeCommand>();
    this.#arrivals.push({ name, arrived });
    return arrived.promise;
  }

  emit(event: string, data?: Record<string, unknown>): void {
    this.send({ event, data, timestamp: { seconds: 1700000000, microseconds: 250000 } });
  }

  send(message: unknown): void {
    this.sendRaw(`${JSON.stringify(message)}\r\n`);
  }

  sendRaw(bytes: string | Uint8Array): void {
    this.#socket?.write(bytes);
  }

  /** Ends the connection after what was sent. */
  hangUp(): void {
    this.#socket?.end();
  }

  async stop(): Promise<void> {
    this.#socket?.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #receive(command: FakeCommand): void {
    this.commands.push(command);
    const reply = this.#replies.get(command.execute)?.(command) ?? {
      error: {
        class: 'CommandNotFound',
        desc: `The command ${command.execute} has not been found`,
      },
    };
    if (reply !== 'silence') this.send({ ...reply, id: command.id });
    const index = this.#arrivals.findIndex(({ name }) => name === command.execute);
    if (index !== -1) this.#arrivals.splice(index, 1)[0]?.arrived.resolve(command);
  }
}
