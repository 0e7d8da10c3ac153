import { parse } from 'smol-toml';

/** Far deeper than any key that is asked for. */
const MAX_DEPTH = 8;

/** From a key's path to the line (from 1) on which it stands first. */
export type TomlLines = (path: readonly string[]) => number;

/**
 * Finds the lines of all keys and table headers in a TOML document (toml.io, 1.0) that the parser has accepted: the
 * parser itself tells positions of syntax errors only.
 */
export function tomlLines(toml: string): TomlLines {
  const lines = new Map<string, number>();
  const scanner = new Scanner(toml, (path, offset) => {
    // A dotted key defines the tables on its way as well.
    for (let length = 1; length <= Math.min(path.length, MAX_DEPTH); length++) {
      const id = JSON.stringify(path.slice(0, length));
      if (!lines.has(id)) lines.set(id, toml.slice(0, offset).split('\n').length);
    }
  });
  scanner.document();
  return (path) => lines.get(JSON.stringify(path)) ?? 1;
}

class Scanner {
  readonly #text: string;
  readonly #found: (path: readonly string[], offset: number) => void;
  #at = 0;

  constructor(text: string, found: (path: readonly string[], offset: number) => void) {
    this.#text = text;
    this.#found = found;
  }

  document(): void {
    let table: string[] = [];
    this.#skip(/\uFEFF?/y);
    this.#skipVoid();
    while (this.#at < this.#text.length) {
      if (this.#peek('[')) {
        this.#skip(/\[\[?[ \t]*/y);
        table = this.#key([]);
        this.#skip(/\]\]?/y);
      } else {
        this.#pair(table);
      }
      this.#skipVoid();
    }
  }

  #pair(table: readonly string[]): void {
    const path = this.#key(table);
    this.#skip(/[ \t]*=[ \t]*/y);
    this.#value(path);
  }

  /** Reads a dotted key, reports it below `table` and returns its whole path. */
  #key(table: readonly string[]): string[] {
    const start = this.#at;
    const text = this.#skip(/(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*'|[ \t]*\.[ \t]*)+/y).trim();
    const path = [...table];
    // The parser knows how quoted keys are unescaped.
    for (let node: unknown = parse(`${text}=0`); typeof node === 'object' && node !== null;) {
      const [entry] = Object.entries(node);
      if (entry === undefined) break;
      path.push(entry[0]);
      node = entry[1];
    }
    this.#found(path, start);
    this.#skip(/[ \t]*/y);
    return path;
  }

  #value(path: readonly string[]): void {
    if (this.#peek('[')) this.#list('[', ']', () => this.#value(path));
    else if (this.#peek('{')) this.#list('{', '}', () => this.#pair(path));
    else if (this.#peek('"""')) this.#skip(/"""(?:\\[^]|[^\\])*?"{3,5}/y);
    else if (this.#peek("'''")) this.#skip(/'''[^]*?'{3,5}/y);
    else if (this.#peek('"')) this.#skip(/"(?:\\.|[^"\\])*"/y);
    else if (this.#peek("'")) this.#skip(/'[^']*'/y);
    else this.#skip(/[^,\]}#\n]*/y);
  }

  #list(open: string, close: string, element: () => void): void {
    this.#at += open.length;
    this.#skipVoid();
    while (!this.#peek(close) && this.#at < this.#text.length) {
      element();
      this.#skipVoid();
      this.#skip(/,?/y);
      this.#skipVoid();
    }
    this.#at += close.length;
  }

  #skipVoid(): void {
    this.#skip(/(?:\s|#[^\n]*)*/y);
  }

  #peek(text: string): boolean {
    return this.#text.startsWith(text, this.#at);
  }

  /** Moves over a match of the sticky pattern and returns it. */
  #skip(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const text = pattern.exec(this.#text)?.[0] ?? '';
    this.#at += text.length;
    return text;
  }
}
