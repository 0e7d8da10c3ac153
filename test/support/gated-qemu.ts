import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, closeSync, constants, openSync, writeFileSync, writeSync } from 'node:fs';
import { ExpectText } from './expect-text.ts';

/** Where it waits: as it is asked for its version, or as it is started for a VM. */
export type Gate = 'version' | 'start';

/** Who waits at the gate. */
export interface AtGate {
  readonly shim: number;
  readonly qemu: number;
}

/** A program that is QEMU, but waits at one point until the test lets it go on, so a test can act at that point. */
export class GatedQemu implements AsyncDisposable {
  /** For the configuration key `qemu`. */
  readonly path: string;
  readonly #arrivals: ChildProcess;
  readonly #text: ExpectText;
  #seen = 0;
  #gate: number | undefined;

  /** @param path of a file to be made; others are made beside it. Every user has to reach its directory. */
  constructor(path: string, gate: Gate) {
    this.path = path;
    const condition =
      gate === 'version' ? '"$*" = -version' : '"$*" != -version ] && [ "$*" != "-machine help"';
    execFileSync('mkfifo', ['-m', '666', `${path}.arrivals`, `${path}.gate`]);
    writeFileSync(
      path,
      `#!/bin/sh
if [ ${condition} ] && [ ! -e ${path}.open ]; then
  echo "shim $PPID qemu $$" >${path}.arrivals
  read -r _ <${path}.gate
fi
exec /usr/bin/qemu-system-x86_64 "$@"
`,
    );
    for (const name of [path, `${path}.arrivals`, `${path}.gate`]) chmodSync(name, 0o777);
    // Opened for both, so that it does not end with its first writer.
    this.#arrivals = spawn('sh', ['-c', `exec cat <>${path}.arrivals`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#text = new ExpectText(this.#arrivals.stdout!);
  }

  /** Resolves when the next one waits at the gate. */
  async reached(): Promise<AtGate> {
    const match = await this.#text.until(/shim (\d+) qemu (\d+)\n/, this.#seen);
    this.#seen += match.index + match[0].length;
    return { shim: Number(match[1]), qemu: Number(match[2]) };
  }

  /** Lets everybody through, from now on. */
  open(): void {
    if (this.#gate !== undefined) return;
    writeFileSync(`${this.path}.open`, '');
    this.#gate = openSync(`${this.path}.gate`, constants.O_RDWR | constants.O_NONBLOCK);
    writeSync(this.#gate, '\n'.repeat(100));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.open();
    const ended = once(this.#arrivals, 'exit');
    this.#arrivals.kill('SIGKILL');
    await ended;
    if (this.#gate !== undefined) closeSync(this.#gate);
  }
}
