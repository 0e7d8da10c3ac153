import { VmError } from '../core/errors.ts';

/** One message of a QMP server (QEMU's `docs/interop/qmp-spec`), told apart by its top-level key. */
export type QmpMessage =
  | { readonly kind: 'greeting'; readonly version: QmpVersion; readonly capabilities: readonly string[] }
  | { readonly kind: 'reply'; readonly id: unknown; readonly value: unknown }
  | { readonly kind: 'error'; readonly id: unknown; readonly errorClass: string; readonly desc: string }
  | ({ readonly kind: 'event' } & QmpEvent)
  /** Well-formed, but nothing that this protocol version knows; to be ignored. */
  | { readonly kind: 'unknown' }
  /** The peer does not speak QMP. Always the last message: the decoder takes nothing after it. */
  | { readonly kind: 'invalid'; readonly error: VmError };

export interface QmpVersion {
  readonly major: number;
  readonly minor: number;
  readonly micro: number;
  /** What the packager added, such as `Debian 1:7.2+dfsg-7`. */
  readonly package: string;
}

export interface QmpEvent {
  readonly name: string;
  readonly data: JsonObject;
  /** Milliseconds since the epoch by QEMU's clock; 0 where QEMU could not tell. */
  readonly at: number;
}

export type JsonObject = Readonly<Record<string, unknown>>;

/** Far above every answer we ask for (`query-qmp-schema` is 0.3 MiB), far below what would hurt the shim. */
export const maxQmpMessageBytes = 16 * 1024 * 1024;

const newline = 0x0a;

/** One command on its line. QEMU reads any JSON; the line end is for people who trace the socket. */
export function encodeQmpCommand(command: string, args: JsonObject | undefined, id: number): string {
  return `${JSON.stringify({ execute: command, arguments: args, id })}\r\n`;
}

/**
 * Cuts a byte stream into QMP messages, one per line, wherever the stream was split. QEMU must not be started with
 * `pretty=on`. Never throws; it holds at most `maxBytes` of an unfinished line.
 */
export class QmpDecoder {
  readonly #maxBytes: number;
  #parts: Buffer[] = [];
  #length = 0;
  #dead = false;

  constructor(maxBytes: number = maxQmpMessageBytes) {
    this.#maxBytes = maxBytes;
  }

  /** True in the middle of a message: an end of the stream here has cut it. */
  get midMessage(): boolean {
    return this.#length > 0;
  }

  push(chunk: Buffer): QmpMessage[] {
    const messages: QmpMessage[] = [];
    let start = 0;
    while (!this.#dead && start < chunk.length) {
      const end = chunk.indexOf(newline, start);
      const part = chunk.subarray(start, end === -1 ? chunk.length : end);
      start = end === -1 ? chunk.length : end + 1;
      this.#length += part.length;
      if (this.#length > this.#maxBytes) {
        messages.push(this.#invalid(`sent a line longer than ${this.#maxBytes} bytes`));
      } else if (end === -1) {
        this.#parts.push(part);
      } else {
        const message = this.#parseLine(this.#takeLine(part));
        if (message !== undefined) messages.push(message);
      }
    }
    return messages;
  }

  #takeLine(last: Buffer): string {
    // Joined as bytes first: a split may fall inside a UTF-8 sequence.
    const line = this.#parts.length === 0 ? last : Buffer.concat([...this.#parts, last]);
    this.#parts = [];
    this.#length = 0;
    return line.toString('utf8').trim();
  }

  #parseLine(line: string): QmpMessage | undefined {
    if (line === '') return undefined;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      return this.#invalid(`sent a line that is not JSON: ${excerpt(line)}`);
    }
    if (!isJsonObject(value)) return this.#invalid(`sent a line that is not an object: ${excerpt(line)}`);
    return (
      parseMessage(value) ?? this.#invalid(`sent a message without the fields it must have: ${excerpt(line)}`)
    );
  }

  #invalid(what: string): QmpMessage {
    this.#dead = true;
    this.#parts = [];
    this.#length = 0;
    return { kind: 'invalid', error: new VmError('Internal', `the QMP peer ${what}`) };
  }
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parseMessage(message: JsonObject): QmpMessage | undefined {
  if (Object.hasOwn(message, 'event')) return parseEvent(message);
  if (Object.hasOwn(message, 'return')) return { kind: 'reply', id: message['id'], value: message['return'] };
  if (Object.hasOwn(message, 'error')) {
    const { error } = message;
    if (!isJsonObject(error) || typeof error['class'] !== 'string' || typeof error['desc'] !== 'string') {
      return undefined;
    }
    return { kind: 'error', id: message['id'], errorClass: error['class'], desc: error['desc'] };
  }
  if (Object.hasOwn(message, 'QMP')) return parseGreeting(message['QMP']);
  return { kind: 'unknown' };
}

function parseEvent(message: JsonObject): QmpMessage | undefined {
  const { event: name, data = {}, timestamp } = message;
  if (typeof name !== 'string' || !isJsonObject(data)) return undefined;
  return { kind: 'event', name, data, at: parseTimestamp(timestamp) };
}

function parseTimestamp(timestamp: unknown): number {
  if (!isJsonObject(timestamp)) return 0;
  const { seconds, microseconds } = timestamp;
  // QEMU says -1 in both when its clock failed.
  if (typeof seconds !== 'number' || typeof microseconds !== 'number' || seconds < 0) return 0;
  return seconds * 1000 + Math.floor(microseconds / 1000);
}

function parseGreeting(greeting: unknown): QmpMessage | undefined {
  if (!isJsonObject(greeting) || !isJsonObject(greeting['version'])) return undefined;
  const { qemu, package: packager } = greeting['version'];
  if (!isJsonObject(qemu)) return undefined;
  const { major, minor, micro } = qemu;
  if (typeof major !== 'number' || typeof minor !== 'number' || typeof micro !== 'number') return undefined;
  const capabilities = Array.isArray(greeting['capabilities']) ? greeting['capabilities'] : [];
  return {
    kind: 'greeting',
    version: { major, minor, micro, package: typeof packager === 'string' ? packager : '' },
    capabilities: capabilities.filter((name) => typeof name === 'string'),
  };
}

function excerpt(line: string): string {
  return JSON.stringify(line.length > 80 ? `${line.slice(0, 80)}…` : line);
}
