/**
 * The TAP of test files that run in one node or, where that hangs, in several: each node numbers its own files from 1 and knows
 * nothing of those before it (scripts/node/run-job). A file's lines are passed on when it has its result, so that one which has to
 * run again is told of once. TAP 14, https://testanything.org/tap-version-14-specification.html
 */
export class FileResults {
  readonly #write: (text: string) => void;
  /** The end of the last chunk, without its newline. */
  #rest = '';
  /** Lines of the file that runs. */
  #unfinished: string[] = [];
  #finished = 0;
  #failed = false;

  constructor(write: (text: string) => void) {
    this.#write = write;
    write('TAP version 14\n');
  }

  /** Files that have a result. */
  get finished(): number {
    return this.#finished;
  }

  get failed(): boolean {
    return this.#failed;
  }

  /** @param chunk what a node says, in pieces of any size */
  add(chunk: string): void {
    const lines = (this.#rest + chunk).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#addLine(line);
  }

  /** The node is gone: what its unfinished file said will be said again by another. */
  forget(): void {
    this.#unfinished = [];
    this.#rest = '';
  }

  /** No more files: tells how many there were. A file without a result is shown as far as it came, and counts. */
  end(): void {
    if (this.#unfinished.length > 0) {
      for (const line of this.#unfinished) this.#write(`${line}\n`);
      this.#failed = true;
      this.forget();
    }
    this.#write(`1..${this.#finished}\n`);
  }

  #addLine(line: string): void {
    if (line.startsWith('TAP version ') || /^1\.\.\d+$/.test(line)) return;
    const result = /^(not )?ok \d+ (.*)$/.exec(line);
    if (result === null) {
      // Diagnostics of a result, indented by two, belong to a file that has one.
      if (this.#unfinished.length === 0 && line.startsWith('  ')) this.#write(`${line}\n`);
      else this.#unfinished.push(line);
      return;
    }
    const [, not = '', rest = ''] = result;
    this.#finished++;
    if (not !== '') this.#failed = true;
    for (const said of [...this.#unfinished, `${not}ok ${this.#finished} ${rest}`]) this.#write(`${said}\n`);
    this.#unfinished = [];
  }
}
