import type { Readable } from 'node:stream';

/** Collects what a stream says and lets a test wait for a text in it. */
export class ExpectText {
  #text = '';
  #ended = false;
  readonly #waiting = new Set<() => void>();

  constructor(stream: Readable) {
    stream.on('data', (chunk: Buffer) => {
      this.#text += chunk.toString('latin1');
      this.#tell();
    });
    const end = (): void => {
      this.#ended = true;
      this.#tell();
    };
    stream.on('end', end).on('close', end).on('error', end);
  }

  get text(): string {
    return this.#text;
  }

  /**
   * Resolves with the match of a pattern in what came after the offset `from`; rejects with all text when the stream ends
   * without it. It waits as long as the test may run: machines differ tenfold.
   */
  async until(pattern: string | RegExp, from = 0): Promise<RegExpExecArray> {
    const regex =
      typeof pattern === 'string' ? new RegExp(pattern.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')) : pattern;
    for (;;) {
      const match = regex.exec(this.#text.slice(from));
      if (match !== null) return match;
      if (this.#ended)
        throw new Error(`the output ended without ${String(pattern)}:\n${this.#text.slice(-3000)}`);
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  #tell(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}
