import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

/** One log file of the CRI plugin, read as it grows. */
class LogFile {
  readonly #path: string;
  #offset = 0;
  /** Bytes of an entry that is not whole yet. */
  #rest = '';
  /** A line of the container that goes on in the next entry. */
  #line = '';

  constructor(path: string) {
    this.#path = path;
  }

  /** Lines that have come since the last call. */
  news(): string[] {
    const entries = `${this.#rest}${this.#read()}`.split('\n');
    this.#rest = entries.pop() ?? '';
    return entries.flatMap((entry) => {
      const parts = /^\S+ std\w+ ([FP]) (.*)$/s.exec(entry);
      if (parts === null) return [];
      this.#line += parts[2] ?? '';
      if (parts[1] === 'P') return [];
      const line = this.#line;
      this.#line = '';
      return [line.replace(/\r$/, '')];
    });
  }

  #read(): string {
    let file: number;
    try {
      file = openSync(this.#path, 'r');
    } catch {
      // Made when the container starts.
      return '';
    }
    try {
      const bytes = Buffer.alloc(Math.max(0, fstatSync(file).size - this.#offset));
      const read = readSync(file, bytes, 0, bytes.length, this.#offset);
      this.#offset += read;
      return bytes.toString('latin1', 0, read);
    } finally {
      closeSync(file);
    }
  }
}

/** What a guest says, through the logs of one container of its pod after the other; runs take hours, so nothing is kept. */
export class GuestLog {
  #files: readonly LogFile[] = [];

  /** From here on the guest's lines go there. The one before may still get what was on its way. */
  follow(path: string): void {
    this.#files = [...this.#files.slice(-1), new LogFile(path)];
  }

  /** Lines that have come since the last call. */
  news(): string[] {
    return this.#files.flatMap((file) => file.news());
  }
}
