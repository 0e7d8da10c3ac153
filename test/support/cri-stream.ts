import { randomBytes } from 'node:crypto';
import { type Duplex, PassThrough } from 'node:stream';
import { ExpectText } from './expect-text.ts';
import type { NodeNetwork } from './cri-node-network.ts';

/** The first byte of a message of `v4.channel.k8s.io`. */
export const ATTACH_CHANNEL = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4 } as const;

const OPCODE = { binary: 2, close: 8, ping: 9, pong: 10 } as const;

/**
 * A stream that containerd's streaming server has prepared (Attach, PortForward), over a WebSocket as a browser would do it:
 * messages that begin with the number of their channel. Kubernetes' own clients use SPDY; behind it all is the same.
 * Source: RFC 6455; k8s.io/apiserver/pkg/util/wsstream.
 */
export class CriStream implements Disposable {
  readonly #socket: Duplex;
  readonly #channels = new Map<number, PassThrough>();
  readonly #texts = new Map<number, ExpectText>();

  private constructor(socket: Duplex) {
    this.#socket = socket;
  }

  /** @param url as Attach or PortForward gave it; its server listens in the node's network namespace. */
  static async open(network: NodeNetwork, url: string, query = ''): Promise<CriStream> {
    const { hostname, port, pathname, host } = new URL(url);
    const socket = network.connect(hostname, Number(port));
    socket.write(
      [
        `GET ${pathname}${query} HTTP/1.1`,
        `Host: ${host}`,
        'Connection: Upgrade',
        'Upgrade: websocket',
        'Sec-WebSocket-Version: 13',
        'Sec-WebSocket-Protocol: v4.channel.k8s.io',
        `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`,
        'Origin: http://localhost',
        '\r\n',
      ].join('\r\n'),
    );
    const stream = new CriStream(socket);
    await stream.#begin();
    return stream;
  }

  /** What has come on a channel. */
  channel(number: number): ExpectText {
    const known = this.#texts.get(number);
    if (known !== undefined) return known;
    const text = new ExpectText(this.#bytes(number));
    this.#texts.set(number, text);
    return text;
  }

  send(channel: number, data: string | Buffer): void {
    this.#write(OPCODE.binary, Buffer.concat([Buffer.from([channel]), Buffer.from(data)]));
  }

  /** Says good-bye after all that was sent; the server hangs up then. */
  [Symbol.dispose](): void {
    this.#write(OPCODE.close, Buffer.alloc(0));
    this.#socket.end();
  }

  /** Reads the answer to the handshake, and everything after it from then on. */
  async #begin(): Promise<void> {
    const answered = Promise.withResolvers<undefined>();
    let pending: Buffer = Buffer.alloc(0);
    let open = false;
    this.#socket.on('data', (chunk: Buffer) => {
      pending = Buffer.concat([pending, chunk]);
      if (!open) {
        const end = pending.indexOf('\r\n\r\n');
        if (end === -1) return;
        const head = pending.subarray(0, end).toString();
        if (!head.startsWith('HTTP/1.1 101 ')) answered.reject(new Error(pending.toString()));
        open = true;
        answered.resolve(undefined);
        pending = pending.subarray(end + 4);
      }
      pending = this.#takeFrames(pending);
    });
    this.#socket.on('error', (error) => answered.reject(error));
    this.#socket.on('close', () => {
      answered.reject(new Error(`the server hung up: ${pending.toString()}`));
      for (const bytes of this.#channels.values()) bytes.end();
    });
    await answered.promise;
  }

  /** Handles whole frames and returns what is left. Servers do not mask, and this one does not fragment. */
  #takeFrames(bytes: Buffer): Buffer {
    let rest = bytes;
    for (;;) {
      if (rest.length < 2) return rest;
      const short = rest.readUInt8(1) & 0x7f;
      const header = short === 126 ? 4 : short === 127 ? 10 : 2;
      if (rest.length < header) return rest;
      const length =
        short === 126 ? rest.readUInt16BE(2) : short === 127 ? Number(rest.readBigUInt64BE(2)) : short;
      if (rest.length < header + length) return rest;
      this.#receive(rest.readUInt8(0) & 0x0f, rest.subarray(header, header + length));
      rest = rest.subarray(header + length);
    }
  }

  #receive(opcode: number, payload: Buffer): void {
    if (opcode === OPCODE.ping) this.#write(OPCODE.pong, payload);
    else if (opcode === OPCODE.close) this.#socket.end();
    else if (payload.length > 1) this.#bytes(payload.readUInt8(0)).write(payload.subarray(1));
  }

  #bytes(channel: number): PassThrough {
    const known = this.#channels.get(channel);
    if (known !== undefined) return known;
    const bytes = new PassThrough();
    this.#channels.set(channel, bytes);
    return bytes;
  }

  /** Clients must mask; a mask of zeros changes nothing. */
  #write(opcode: number, payload: Buffer): void {
    if (!this.#socket.writable) return;
    const length =
      payload.length < 126
        ? Buffer.from([0x80 | payload.length])
        : Buffer.from([0x80 | 126, payload.length >> 8, payload.length & 0xff]);
    this.#socket.write(Buffer.concat([Buffer.from([0x80 | opcode]), length, Buffer.alloc(4), payload]));
  }
}
