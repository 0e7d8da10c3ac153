import type { Host, OwnedFd } from '../host/host.ts';
import { openFlags } from '../host/open-flags.ts';
import { limitLog } from './limit-log.ts';

const maxTailBytes = 8 * 1024;
const maxWarningBytes = 64 * 1024;
const limit = { maxBytes: 1024 * 1024, keptBytes: maxWarningBytes, restMs: 1000 };

/**
 * What one QEMU process wrote to stdout and stderr. It goes to a file, never to a pipe of ours, so QEMU outlives us.
 * The file is appended to by every QEMU of the VM; reads see only this process's part and at most some KiB of it.
 */
export class QemuLog {
  readonly path: string;
  readonly #host: Host;
  #start: number;

  /** Opens the log for a QEMU about to start, mode 0600; the descriptor is the caller's to close. */
  static create(host: Host, path: string): { readonly log: QemuLog; readonly fd: OwnedFd } {
    const { O_WRONLY, O_CREAT, O_APPEND, O_NOFOLLOW } = openFlags;
    const fd = host.open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0o600);
    return { log: new QemuLog(host, path, host.inspect(path)?.size ?? 0), fd };
  }

  constructor(host: Host, path: string, start: number) {
    this.#host = host;
    this.path = path;
    this.#start = start;
  }

  /** Where this process's part begins, in bytes; an adopting shim gives it to the constructor. */
  get start(): number {
    return this.#start;
  }

  /** Keeps the file at about 1 MiB, whatever a guest makes QEMU say, until disposed. */
  keepSmall(): Disposable {
    return limitLog(this.#host, this.path, { ...limit, onCut: () => (this.#start = 0) });
  }

  /** The last lines, the newest last, without the program's name in front; empty where there is no log. */
  tail(maxLines = 8): string[] {
    return this.#lines(maxTailBytes).map(withoutProgram).slice(-maxLines);
  }

  /** QEMU's warnings so far, each once, without `warning:` in front. */
  readWarnings(): string[] {
    const warnings = this.#lines(maxWarningBytes).flatMap((line) => {
      const text = withoutProgram(line);
      return text.startsWith('warning: ') ? [text.slice('warning: '.length)] : [];
    });
    return [...new Set(warnings)];
  }

  #lines(maxBytes: number): string[] {
    const size = this.#host.inspect(this.path)?.size ?? 0;
    // Cut by a shim before this one, perhaps.
    const start = this.#start > size ? 0 : this.#start;
    const from = Math.max(start, size - maxBytes);
    if (from >= size) return [];
    using file = this.#host.open(this.path, openFlags.O_RDONLY | openFlags.O_NOFOLLOW);
    const lines = this.#host
      .readBytes(file.fd, from, size - from)
      .toString('utf8')
      .split(/\r?\n/);
    // The first line of a part that begins inside the text is cut.
    if (from > start) lines.shift();
    return lines.map((line) => line.trim()).filter((line) => line !== '');
  }
}

/** QEMU writes `qemu-system-x86_64: text`, after a time stamp with `-msg timestamp=on`. */
function withoutProgram(line: string): string {
  return line.replace(/^(?:\d{4}-\d\d-\d\dT\S+ )?(?:\S*\/)?qemu[\w.-]*: /, '');
}
