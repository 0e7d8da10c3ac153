import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { VmError } from '../core/errors.ts';
import { followRedirect, showUrl } from './image-url.ts';

const MAX_REDIRECTS = 10;

export interface GetOptions {
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  /** Milliseconds without a byte after which the connection counts as broken. */
  readonly idleMs: number;
}

/**
 * GET by http or https, following redirections. The answer's body ends with an error when the connection breaks, stalls
 * or ends before Content-Length. It is not decoded: what is asked for is the file as it is.
 * @throws VmError FailedPrecondition for redirections that lead nowhere good; Node's error when nobody answers.
 */
export async function httpGet(
  url: URL,
  options: GetOptions,
): Promise<{ readonly answer: IncomingMessage; readonly url: URL }> {
  let at = url;
  for (let count = 0; count <= MAX_REDIRECTS; count++) {
    const answer = await ask(at, options);
    const status = answer.statusCode ?? 0;
    if (![301, 302, 303, 307, 308].includes(status)) return { answer, url: at };
    answer.destroy();
    at = followRedirect(at, answer.headers.location);
  }
  throw new VmError(
    'FailedPrecondition',
    `${showUrl(url)} redirects more than ${MAX_REDIRECTS} times; give the URL of the image itself`,
  );
}

function ask(url: URL, { headers, signal, idleMs }: GetOptions): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  if (url.protocol === 'https:') trustSystem();
  const start = url.protocol === 'https:' ? httpsRequest : httpRequest;
  const call = start(url, {
    // A connection of its own, closed with the answer.
    agent: false,
    headers: { 'user-agent': 'vmctl', 'accept-encoding': 'identity', ...headers },
    signal,
  });
  let response: IncomingMessage | undefined;
  call.setTimeout(idleMs, () => {
    const stalled = new Error(`nothing came for ${idleMs / 1000} s`);
    response?.destroy(stalled);
    call.destroy(stalled);
  });
  call.once('response', (answer) => {
    response = answer;
    resolve(answer);
  });
  // Stays: after the answer has begun, its body tells of the same error.
  call.on('error', reject);
  call.end();
  return promise;
}

let trusted = false;

/** Node trusts its own list alone; an operator's private CA is in the system's. */
function trustSystem(): void {
  if (trusted) return;
  trusted = true;
  setDefaultCACertificates([...getCACertificates('default'), ...getCACertificates('system')]);
}
