import { createServer, type Server } from 'node:http';
import { VmError } from '../core/errors.ts';

/** What one path answers. */
export interface Page {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** No more questions at once than a handful of scrapers ask. */
const MAX_CONNECTIONS = 32;
const REQUEST_MS = 10_000;

/** Serves `pages` by path over HTTP, for GET alone. Disposing closes all connections. */
export class HttpServer implements AsyncDisposable {
  readonly #server: Server;
  /** Where it listens. */
  readonly address: ListenAddress;

  private constructor(server: Server, address: ListenAddress) {
    this.#server = server;
    this.address = address;
  }

  /** @throws VmError FailedPrecondition when the address cannot be had. */
  static async listen(
    address: ListenAddress,
    pages: Readonly<Record<string, () => Page | Promise<Page>>>,
  ): Promise<HttpServer> {
    const server = createServer(
      { requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS },
      (request, response) => {
        const path = (request.url ?? '').split('?')[0] ?? '';
        void answer(request.method, Object.hasOwn(pages, path) ? pages[path] : undefined).then(
          ({ status, type, body }) => {
            response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(body);
          },
        );
      },
    );
    server.maxConnections = MAX_CONNECTIONS;
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    server.once('error', reject);
    server.listen({ host: address.host, port: address.port }, () => resolve(undefined));
    try {
      await promise;
    } catch (cause) {
      const { message } = VmError.from(cause);
      const where = `${address.host}:${address.port}`;
      throw new VmError(
        'FailedPrecondition',
        `cannot listen on ${where}: ${message}; choose another by --listen`,
        {
          cause,
        },
      );
    }
    const bound = server.address();
    const port = typeof bound === 'object' && bound !== null ? bound.port : address.port;
    return new HttpServer(server, { host: address.host, port });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#server.close(() => resolve(undefined));
    this.#server.closeAllConnections();
    await promise;
  }
}

async function answer(
  method: string | undefined,
  page: (() => Page | Promise<Page>) | undefined,
): Promise<Page> {
  if (page === undefined) return plain(404, 'there is /metrics, /healthz and /readyz\n');
  if (method !== 'GET' && method !== 'HEAD') return plain(405, 'only GET\n');
  try {
    return await page();
  } catch (error) {
    return plain(500, `${VmError.from(error).message}\n`);
  }
}

export function plain(status: number, body: string): Page {
  return { status, type: 'text/plain; charset=utf-8', body };
}
