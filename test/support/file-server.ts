import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Teardown } from './temp-dir.ts';

/** What a server does with a request beside serving its file. */
export interface Behaviour {
  /** Ends the connection after so many bytes of a body. */
  readonly cutAfter?: (request: number) => number | undefined;
  readonly etag?: (request: number) => string | undefined;
  readonly ranges?: boolean;
  /** Adds to Content-Length. */
  readonly lie?: number;
  /** Answers without Content-Length. */
  readonly chunked?: boolean;
  /** Stops sending after so many bytes and leaves the connection open. */
  readonly stallAfter?: number | ((request: number) => number | undefined);
  readonly status?: (request: number) => number | undefined;
  /** Where to, by a 302. */
  readonly redirect?: (request: number) => string | undefined;
}

/** A web server on loopback with one file under every path. */
export class FileServer {
  /** Ranges that were asked for, '' for none. */
  readonly asked: string[] = [];
  readonly authorizations: (string | undefined)[] = [];
  readonly #server: Server;
  content: Buffer;

  private constructor(content: Buffer, behaviour: Behaviour) {
    this.content = content;
    this.#server = createServer((request, response) => {
      this.asked.push(request.headers.range ?? '');
      this.authorizations.push(request.headers.authorization);
      this.#answer(this.asked.length - 1, behaviour, request, response);
    });
  }

  static async start(t: Teardown, content: Buffer, behaviour: Behaviour = {}): Promise<FileServer> {
    const server = new FileServer(content, behaviour);
    server.#server.listen(0, '127.0.0.1');
    await once(server.#server, 'listening');
    t.teardown(() => {
      server.#server.closeAllConnections();
      server.#server.close();
    });
    return server;
  }

  url(path: string): URL {
    return new URL(`http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/${path}`);
  }

  #answer(number: number, behaviour: Behaviour, request: IncomingMessage, response: ServerResponse): void {
    const to = behaviour.redirect?.(number);
    if (to !== undefined) return void response.writeHead(302, { location: to }).end();
    const status = behaviour.status?.(number);
    if (status !== undefined) return void response.writeHead(status).end('no');
    const etag = behaviour.etag?.(number);
    const from = this.#rangeStart(behaviour, request, etag);
    const body = this.content.subarray(from ?? 0);
    const cut = behaviour.cutAfter?.(number);
    response.writeHead(from === undefined ? 200 : 206, {
      ...(etag === undefined ? {} : { etag }),
      ...(from === undefined
        ? {}
        : { 'content-range': `bytes ${from}-${this.content.length - 1}/${this.content.length}` }),
      ...(behaviour.chunked === true ? {} : { 'content-length': body.length + (behaviour.lie ?? 0) }),
    });
    const { stallAfter } = behaviour;
    const stall = typeof stallAfter === 'function' ? stallAfter(number) : stallAfter;
    if (stall !== undefined) return void response.write(body.subarray(0, stall));
    if (cut !== undefined && cut < body.length)
      return void response.write(body.subarray(0, cut), () => response.destroy());
    if (behaviour.lie !== undefined) return void response.write(body, () => response.destroy());
    response.end(body);
  }

  #rangeStart(
    { ranges = true }: Behaviour,
    request: IncomingMessage,
    etag: string | undefined,
  ): number | undefined {
    const start = /^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1];
    const same = request.headers['if-range'] === etag;
    return ranges && start !== undefined && same ? Number(start) : undefined;
  }
}
