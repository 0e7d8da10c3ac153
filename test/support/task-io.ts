import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { ExpectText } from './expect-text.ts';

/** A task's fifos as a client of containerd makes them, and this client's ends of them. */
export class TaskIo implements AsyncDisposable {
  /** For the CreateTaskRequest. */
  readonly request: {
    readonly stdin: string;
    readonly stdout: string;
    readonly stderr: string;
    readonly terminal: boolean;
  };
  /** What came on stdout. */
  readonly console: ExpectText;
  /** Resolves when stdout, and stderr if there is one, have ended. */
  readonly ended: Promise<unknown>;
  /** Reads stdout; a test may stop and continue it. */
  readonly reader: ChildProcess;
  readonly #directory: string;
  readonly #readers: readonly ChildProcess[];
  #stdin: number | undefined;

  constructor(directory: string, { terminal = false }: { terminal?: boolean } = {}) {
    mkdirSync(directory, { recursive: true });
    const names = terminal ? ['stdin', 'stdout'] : ['stdin', 'stdout', 'stderr'];
    const paths = names.map((name) => join(directory, name));
    execFileSync('mkfifo', paths);
    const [stdin = '', stdout = '', stderr = ''] = paths;
    this.#directory = directory;
    this.request = { stdin, stdout, stderr, terminal };
    // cat opens as containerd's client does: before the shim, and it sees the end when the shim has closed.
    this.#readers = paths
      .slice(1)
      .map((path) => spawn('cat', [path], { stdio: ['ignore', 'pipe', 'inherit'] }));
    this.reader = this.#readers[0]!;
    this.console = new ExpectText(this.reader.stdout!);
    this.ended = Promise.all(this.#readers.map((reader) => once(reader, 'exit')));
  }

  /** Types at the guest's console. The shim must have opened stdin, as it has once Create has returned. */
  write(text: string): void {
    this.#stdin ??= openSync(this.request.stdin, constants.O_WRONLY | constants.O_NONBLOCK);
    writeSync(this.#stdin, text);
  }

  type(line: string): void {
    this.write(`${line}\n`);
  }

  /** Closes the client's end of stdin, as a client that detaches. */
  leaveStdin(): void {
    if (this.#stdin !== undefined) closeSync(this.#stdin);
    this.#stdin = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.leaveStdin();
    for (const reader of this.#readers) reader.kill('SIGKILL');
    await this.ended;
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
