import { VmError, describeError } from '../../core/errors.ts';
import type { OwnedFd } from '../../host/host.ts';
import type { ConsoleHost } from './console-host.ts';
import { openFlags } from '../../host/open-flags.ts';

const { O_APPEND, O_CREAT, O_RDONLY, O_RDWR, O_TRUNC } = openFlags;

export interface ConsoleLogOptions {
  /** Size in bytes at which a file is rotated. Default 8 MiB. */
  readonly bytes?: number;
  /** Files kept, the current one included: `console.log`, `console.log.1` … Default 2. */
  readonly files?: number;
  /** Told one sentence when the log stops taking bytes, and one when it takes them again. */
  readonly report?: (sentence: string) => void;
}

/** One file: bytes [base, base + length) of the console stream, after `header` bytes that are ours. */
interface Segment {
  readonly file: OwnedFd;
  header: number;
  base: number;
  length: number;
}

/**
 * Everything the guest printed, on disk, bounded: at any time at least the last `bytes * (files - 1)` bytes. Bytes have
 * offsets in one stream that begins with the oldest byte found on disk at opening. A log that cannot be written is no
 * reason to stop a guest: the bytes are counted, a line in the log tells of them once it can be written again.
 *
 * A file is always one unbroken piece of the stream, so a new one is begun after a hole.
 */
export class ConsoleLog implements Disposable {
  readonly #host: ConsoleHost;
  readonly #path: string;
  readonly #bytes: number;
  readonly #files: number;
  readonly #report: (sentence: string) => void;
  /** Oldest first. */
  readonly #segments: Segment[] = [];
  /** The one that is written: the last of the segments, or none where the disk was full at opening. */
  #current: Segment | undefined;
  #end = 0;
  #hole = 0;
  #dropped = 0;

  /** Opens or creates the log at `path`, mode 0600. Throws what `Host.open` throws, except that a full disk is borne. */
  constructor(host: ConsoleHost, path: string, options: ConsoleLogOptions = {}) {
    this.#host = host;
    this.#path = path;
    this.#bytes = options.bytes ?? 8 << 20;
    this.#files = options.files ?? 2;
    this.#report = options.report ?? (() => undefined);
    if (
      !Number.isSafeInteger(this.#bytes) ||
      this.#bytes < 1 ||
      !Number.isSafeInteger(this.#files) ||
      this.#files < 1
    ) {
      throw new VmError(
        'InvalidArgument',
        `a console log of ${this.#files} files of ${this.#bytes} bytes is not possible: give at least 1 file of 1 byte`,
      );
    }
    try {
      this.#openExisting();
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Offset after the newest byte. */
  get end(): number {
    return this.#end;
  }

  /** Bytes that never reached the disk since the log was opened. */
  get droppedBytes(): number {
    return this.#dropped;
  }

  /** Never throws. */
  append(chunk: Uint8Array): void {
    const at = this.#end;
    this.#end += chunk.length;
    let segment: Segment | undefined;
    try {
      segment = this.#writable(at, chunk.length);
      if (this.#hole > 0) this.#closeHole(segment);
      const target = segment;
      this.#writeAll(target, chunk, (n) => (target.length += n));
    } catch (error) {
      const lost = chunk.length - (segment === undefined ? 0 : segment.base + segment.length - at);
      if (this.#hole === 0) this.#complain(error);
      this.#hole += lost;
      this.#dropped += lost;
    }
  }

  /** Up to `max` bytes from offset `from`; undefined where the disk has none of them (any more). */
  read(from: number, max: number): Buffer | undefined {
    const segment = this.#segments.find((s) => from >= s.base && from < s.base + s.length);
    if (segment === undefined) return undefined;
    const position = from - segment.base;
    try {
      const data = this.#host.readBytes(
        segment.file.fd,
        segment.header + position,
        Math.min(max, segment.length - position),
      );
      return data.length > 0 ? data : undefined;
    } catch {
      return undefined;
    }
  }

  /** The smallest offset above `from` at which a file begins; undefined if there is none. */
  nextAfter(from: number): number | undefined {
    return this.#segments.find((s) => s.length > 0 && s.base > from)?.base;
  }

  [Symbol.dispose](): void {
    for (const segment of this.#segments.splice(0)) segment.file[Symbol.dispose]();
  }

  #openExisting(): void {
    for (let i = this.#files; this.#host.inspect(this.#name(i)) !== undefined; i++)
      this.#host.remove(this.#name(i));
    for (let i = this.#files - 1; i > 0; i--) {
      const size = this.#host.inspect(this.#name(i))?.size;
      if (size !== undefined) this.#adopt(this.#host.open(this.#name(i), O_RDONLY), size);
    }
    const size = this.#host.inspect(this.#path)?.size ?? 0;
    try {
      this.#current = this.#adopt(this.#host.open(this.#path, O_RDWR | O_APPEND | O_CREAT, 0o600), size);
    } catch (error) {
      if (!VmError.is(error, 'ResourceExhausted')) throw error;
      this.#report(
        `console log ${this.#path} cannot be opened, the guest runs on without it: ${describeError(error)}`,
      );
    }
  }

  #adopt(file: OwnedFd, length: number): Segment {
    const segment = { file, header: 0, base: this.#end, length };
    this.#segments.push(segment);
    this.#end += length;
    return segment;
  }

  /** The segment that takes `length` bytes at offset `at`: a new one where the current one is full or ends elsewhere. */
  #writable(at: number, length: number): Segment {
    const current = this.#current;
    if (current === undefined) return this.#rotate(at);
    if (current.length === 0) current.base = at;
    const full = current.header + current.length + length > this.#bytes;
    const broken = current.base + current.length !== at;
    return current.length > 0 && (full || broken) ? this.#rotate(at) : current;
  }

  #rotate(at: number): Segment {
    // The new file is made first: where that fails nothing old was touched.
    const fresh = `${this.#path}.new`;
    const file = this.#host.open(fresh, O_RDWR | O_APPEND | O_CREAT | O_TRUNC, 0o600);
    try {
      for (let i = this.#files - 1; i > 0; i--) this.#moveAside(this.#name(i - 1), this.#name(i));
      this.#host.rename(fresh, this.#path);
    } catch (error) {
      file[Symbol.dispose]();
      throw error;
    }
    while (this.#segments.length >= this.#files) this.#segments.shift()?.file[Symbol.dispose]();
    const segment = { file, header: 0, base: at, length: 0 };
    this.#segments.push(segment);
    this.#current = segment;
    return segment;
  }

  #moveAside(from: string, to: string): void {
    try {
      this.#host.rename(from, to);
    } catch (error) {
      if (!VmError.is(error, 'NotFound')) throw error;
    }
  }

  #closeHole(segment: Segment): void {
    const line = `\n[vmshim: ${this.#hole} bytes of console output could not be logged]\n`;
    this.#writeAll(segment, Buffer.from(line), (n) => (segment.header += n));
    this.#report(
      `console log ${this.#path} is written again, ${this.#hole} bytes of output are missing from it`,
    );
    this.#hole = 0;
  }

  #writeAll(segment: Segment, data: Uint8Array, count: (n: number) => void): void {
    for (let done = 0; done < data.length;) {
      const n = this.#host.appendBytes(segment.file.fd, data.subarray(done));
      if (n < 1) throw new VmError('Internal', `write to ${this.#path} took no byte`);
      done += n;
      count(n);
    }
  }

  #complain(error: unknown): void {
    this.#report(
      `console log ${this.#path} cannot be written, the guest runs on without it: ${describeError(error)}`,
    );
  }

  #name(index: number): string {
    return index === 0 ? this.#path : `${this.#path}.${index}`;
  }
}
