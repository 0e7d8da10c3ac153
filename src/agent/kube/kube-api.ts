import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { type ErrorKind, VmError } from '../../core/errors.ts';
import type { Cluster } from './cluster.ts';
import { splitLines } from './split-lines.ts';
import { textAt } from './json.ts';

export interface KubeRequest {
  readonly method: 'GET' | 'PATCH';
  /** Such as `/api/v1/pods`. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  /** JSON, with the media type of the patch. */
  readonly body?: { readonly type: string; readonly value: unknown };
  readonly accept?: string;
}

/** An answer to a question that is not a stream, and one line of a stream, are refused above this. */
const MAX_ANSWER_BYTES = 64 << 20;
const MAX_LINE_BYTES = 8 << 20;
const ANSWER_MS = 30_000;
const KEEP_ALIVE_MS = 30_000;

/** The status of the API server's refusal, as `cause` of the VmError that tells of it. */
interface Refusal {
  readonly httpStatus: number;
}

/** The HTTP status that an error of this API stands for; undefined when nobody answered. */
export function httpStatus(error: unknown): number | undefined {
  const cause = error instanceof Error ? error.cause : undefined;
  return typeof cause === 'object' && cause !== null && 'httpStatus' in cause
    ? (cause as Refusal).httpStatus
    : undefined;
}

/**
 * Questions to the API server, as JSON over HTTP (Kubernetes API concepts, API conventions). Every method throws VmError:
 * Unavailable when nobody answers or the connection breaks, NotFound for 404, PermissionDenied for 401 and 403, Aborted for
 * 409, InvalidArgument for other refusals, Canceled and DeadlineExceeded by the signal and after 30 s.
 */
export class KubeApi {
  readonly #cluster: Cluster;
  readonly #userAgent: string;

  constructor(cluster: Cluster, userAgent: string) {
    this.#cluster = cluster;
    this.#userAgent = userAgent;
  }

  async ask(request: KubeRequest, signal: AbortSignal): Promise<unknown> {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]);
    const answer = await this.#send(request, limited);
    const text = await readText(answer, limited);
    const status = answer.statusCode ?? 0;
    if (status < 200 || status > 299) throw refused(request, status, text);
    try {
      return JSON.parse(text) as unknown;
    } catch (cause) {
      throw unavailable(request, `its answer is no JSON`, cause);
    }
  }

  /**
   * Resolves when the server has begun an answer that goes on for long, to its lines without their newlines; what comes
   * after the last newline is no line. They have to be iterated.
   * @param idleMs how long nothing may come before the connection counts as broken.
   */
  async stream(
    request: KubeRequest,
    idleMs: number,
    signal: AbortSignal,
  ): Promise<AsyncGenerator<string, void>> {
    const answer = await this.#send(request, signal, idleMs);
    const status = answer.statusCode ?? 0;
    if (status !== 200) throw refused(request, status, await readText(answer, signal));
    return readLines(request, answer, signal);
  }

  async #send(request: KubeRequest, signal: AbortSignal, idleMs?: number): Promise<IncomingMessage> {
    expectGoing(signal);
    const { method, path, query = {}, body, accept = 'application/json' } = request;
    const url = new URL(this.#cluster.server + path);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    try {
      const options = await this.#cluster.options();
      const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
      const start = url.protocol === 'https:' ? httpsRequest : httpRequest;
      const call = start(url, {
        ...options,
        method,
        signal,
        headers: {
          ...(options.headers as Record<string, string> | undefined),
          accept,
          'user-agent': this.#userAgent,
          ...(body === undefined ? {} : { 'content-type': body.type }),
        },
      });
      call.once('response', resolve);
      // Stays: after the answer has begun, its body tells of the same error.
      call.on('error', reject);
      // A node that has lost its network learns of it in minutes, not in hours.
      call.once('socket', (socket) => socket.setKeepAlive(true, KEEP_ALIVE_MS));
      if (idleMs !== undefined) {
        call.setTimeout(idleMs, () => {
          const idle = new Error(`nothing came for ${Math.round(idleMs / 1000)} s`);
          call.destroy(idle);
        });
      }
      call.end(body === undefined ? undefined : JSON.stringify(body.value));
      return await promise;
    } catch (cause) {
      if (signal.aborted) throw VmError.from(signal.reason, describe(request));
      throw unavailable(request, VmError.from(cause).message, cause);
    }
  }
}

function expectGoing(signal: AbortSignal): void {
  if (signal.aborted) throw VmError.from(signal.reason);
}

async function* readLines(
  request: KubeRequest,
  answer: IncomingMessage,
  signal: AbortSignal,
): AsyncGenerator<string, void> {
  try {
    yield* splitLines(answer as AsyncIterable<Buffer>, MAX_LINE_BYTES);
  } catch (cause) {
    if (signal.aborted) throw VmError.from(signal.reason);
    throw unavailable(request, VmError.from(cause).message, cause);
  } finally {
    answer.destroy();
  }
}

async function readText(answer: IncomingMessage, signal: AbortSignal): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > MAX_ANSWER_BYTES)
        throw new VmError(
          'ResourceExhausted',
          `an answer of the API server exceeds ${MAX_ANSWER_BYTES} bytes`,
        );
      chunks.push(chunk);
    }
  } catch (cause) {
    if (VmError.is(cause)) throw cause;
    if (signal.aborted) throw VmError.from(signal.reason);
    throw new VmError(
      'Unavailable',
      `the connection to the API server broke within an answer: ${VmError.from(cause).message}`,
      { cause },
    );
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** What the server says of a refusal is a Status object; a proxy before it may say anything. */
function refused(request: KubeRequest, status: number, text: string): VmError {
  const said = parseMessage(text);
  const refusal: Refusal = { httpStatus: status };
  return new VmError(
    refusalKind(status),
    `${describe(request)}: the API server answers ${status}${said === undefined ? '' : `: ${said}`}`,
    { cause: refusal },
  );
}

function parseMessage(text: string): string | undefined {
  try {
    return textAt(JSON.parse(text), 'message');
  } catch {
    return undefined;
  }
}

/** The error that a status stands for, whether an answer has it or an event of a watch. */
export function refusalKind(status: number): ErrorKind {
  if (status === 401 || status === 403) return 'PermissionDenied';
  if (status === 404) return 'NotFound';
  if (status === 409) return 'Aborted';
  if (status === 410) return 'FailedPrecondition';
  if (status === 429 || status >= 500) return 'Unavailable';
  return 'InvalidArgument';
}

function unavailable(request: KubeRequest, why: string, cause: unknown): VmError {
  return new VmError('Unavailable', `${describe(request)}: the API server cannot be reached: ${why}`, {
    cause,
  });
}

function describe({ method, path }: KubeRequest): string {
  return `${method} ${path}`;
}
