const ESCAPE = 0x1d;

export const ESCAPE_HELP = 'Ctrl-] ? lists the other keys.';
const KEYS =
  '\r\nCtrl-] q leave   Ctrl-] r send the window size   Ctrl-] Ctrl-] send Ctrl-] itself   Ctrl-] ? this help\r\n';

export interface KeyResult {
  readonly send: Uint8Array;
  readonly leave: boolean;
  /** For the user's own screen. */
  readonly say: string;
}

/** Finds the escape key, Ctrl-] as in telnet and virsh, in what is typed; it may come in one chunk with what follows or not. */
export class ConsoleKeys {
  readonly #size: () => { rows: number | undefined; columns: number | undefined };
  #escaped = false;

  constructor(size: () => { rows: number | undefined; columns: number | undefined }) {
    this.#size = size;
  }

  feed(chunk: Uint8Array): KeyResult {
    const send: number[] = [];
    let say = '';
    for (const byte of chunk) {
      if (!this.#escaped) {
        if (byte === ESCAPE) this.#escaped = true;
        else send.push(byte);
        continue;
      }
      this.#escaped = false;
      switch (String.fromCharCode(byte)) {
        case 'q':
        case '.':
          return { send: Uint8Array.from(send), leave: true, say };
        case 'r':
          send.push(...Buffer.from(this.#sttyLine()));
          break;
        case '\x1d':
          send.push(ESCAPE);
          break;
        default:
          say += KEYS;
      }
    }
    return { send: Uint8Array.from(send), leave: false, say };
  }

  #sttyLine(): string {
    const { rows, columns } = this.#size();
    return rows === undefined || columns === undefined ? '' : `stty rows ${rows} cols ${columns}\r`;
  }
}
