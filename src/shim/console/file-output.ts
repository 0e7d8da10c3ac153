import { describeError } from '../../core/errors.ts';
import type { OwnedFd } from '../../host/host.ts';
import type { ConsoleHost } from './console-host.ts';
import type { ConsoleSpool } from './console-spool.ts';
import { openFlags } from '../../host/open-flags.ts';
import type { OutputSink } from './output-sink.ts';
import { SpoolCursor } from './spool-cursor.ts';

const { O_APPEND, O_CREAT, O_WRONLY } = openFlags;

/** Output appended to a regular file. What a full disk does not take is lost to the file and told once. */
export class FileOutput implements OutputSink {
  readonly #host: ConsoleHost;
  readonly #path: string;
  readonly #file: OwnedFd;
  readonly #cursor: SpoolCursor;
  readonly #following: Disposable;
  readonly #report: (sentence: string) => void;
  #failing = false;
  #closed = false;

  /** Opens `path` for appending; with `create` it and its directory (0755, file 0644) are made when absent. */
  constructor(
    host: ConsoleHost,
    spool: ConsoleSpool,
    path: string,
    options: { readonly create: boolean; readonly report?: ((sentence: string) => void) | undefined },
  ) {
    this.#host = host;
    this.#path = path;
    this.#report = options.report ?? (() => undefined);
    if (options.create) host.makeDir(path.slice(0, path.lastIndexOf('/')) || '/', 0o755);
    this.#file = host.open(path, O_WRONLY | O_APPEND | (options.create ? O_CREAT : 0), 0o644);
    this.#cursor = new SpoolCursor(spool);
    this.#following = spool.follow(() => this.#flush());
  }

  async finish(): Promise<void> {
    if (!this.#closed) this.#flush();
    await this[Symbol.asyncDispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#following[Symbol.dispose]();
      this.#file[Symbol.dispose]();
    }
    return Promise.resolve();
  }

  #flush(): void {
    for (let chunk = this.#cursor.take(); chunk !== undefined; chunk = this.#cursor.take())
      this.#write(chunk);
  }

  #write(chunk: Buffer): void {
    try {
      for (let done = 0; done < chunk.length;) {
        done += this.#host.appendBytes(this.#file.fd, chunk.subarray(done));
      }
      this.#failing = false;
    } catch (error) {
      if (!this.#failing) {
        this.#report(
          `stdout ${this.#path} does not take all output, the console log has it: ${describeError(error)}`,
        );
      }
      this.#failing = true;
    }
  }
}
