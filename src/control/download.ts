import { createHash, type Hash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises';
import { describeError, VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { httpGet } from './http-get.ts';
import { showUrl } from './image-url.ts';
import type { PartialDownload } from './partial-download.ts';
import type { SpaceLimit } from './space-limit.ts';

export interface DownloadOptions {
  readonly signal: AbortSignal;
  /** Checked for every byte that is written. */
  readonly limit: SpaceLimit;
  readonly onProgress: (done: number, total: number | undefined) => void;
  /** Called with a sentence before a transfer is tried again. */
  readonly onRetry: (why: string) => void;
  readonly tuning?: DownloadTuning;
  /** Where an earlier program has come with the same file, and where the next one looks. */
  readonly partial?: Pick<PartialDownload, 'begun' | 'note'> | undefined;
}

export interface DownloadTuning {
  /** Attempts in a row that brought nothing new. */
  readonly attempts: number;
  /** Before the second attempt; doubled for each one after. */
  readonly firstPauseMs: number;
  readonly idleMs: number;
}

const TUNING: DownloadTuning = { attempts: 6, firstPauseMs: 500, idleMs: 60_000 };
const LONGEST_PAUSE_MS = 30_000;
/** So much is downloaded again at most after a program that was killed. */
const NOTE_EVERY = 64 * 2 ** 20;
const CHUNK = 2 ** 20;

export interface Downloaded {
  readonly bytes: number;
  readonly sha256: string;
}

/** How far a transfer has come. */
interface Progress {
  done: number;
  hash: Hash;
  /** What the first answer said the file is: `ETag` or `Last-Modified`. Without one, a transfer starts over. */
  validator: string | undefined;
  /** What of it would survive the program and the machine. */
  noted: number;
}

/**
 * Downloads into an empty file, or goes on with a partial one. A transfer that breaks goes on where it broke, if the server can do that and the file is
 * still the same (RFC 9110, §13.1.5 and §14), and starts over if not.
 * @throws VmError InvalidArgument or NotFound for what the server will never give, Unavailable when attempts are used
 * up, ResourceExhausted for too much, Canceled.
 */
export async function download(
  host: Host,
  url: URL,
  fd: number,
  options: DownloadOptions,
): Promise<Downloaded> {
  const { attempts, firstPauseMs } = options.tuning ?? TUNING;
  const progress = await begin(host, fd, options);
  let farthest = progress.done;
  for (let failed = 0; ;) {
    try {
      await transfer(host, url, fd, progress, options);
      return { bytes: progress.done, sha256: progress.hash.digest('hex') };
    } catch (error) {
      note(host, fd, progress, options);
      if (options.signal.aborted) throw VmError.from(options.signal.reason);
      // Our own errors are final; those of the network are Node's.
      if (VmError.is(error) && !(error instanceof Again)) throw error;
      failed = progress.done > farthest ? 1 : failed + 1;
      farthest = Math.max(farthest, progress.done);
      const why = `${showUrl(url)}: ${describeError(error)} after ${progress.done} bytes`;
      if (failed >= attempts) {
        throw new VmError('Unavailable', `${why}, ${attempts} times in a row; try again later`, {
          cause: error,
        });
      }
      options.onRetry(why);
    }
    const pause = Math.min(LONGEST_PAUSE_MS, firstPauseMs * 2 ** (failed - 1));
    await delay(pause * (0.5 + Math.random() / 2), undefined, { signal: options.signal }).catch(() => {
      throw VmError.from(options.signal.reason);
    });
  }
}

/** Reads what an earlier program has left, since the checksum is of the whole file. @throws VmError Canceled. */
async function begin(host: Host, fd: number, { partial, signal }: DownloadOptions): Promise<Progress> {
  const hash = createHash('sha256');
  const { done = 0, validator } = partial?.begun ?? {};
  for (let at = 0; at < done;) {
    if (signal.aborted) throw VmError.from(signal.reason);
    const bytes = host.readBytes(fd, at, Math.min(CHUNK, done - at));
    if (bytes.length === 0) break;
    hash.update(bytes);
    at += bytes.length;
    await turn();
  }
  host.truncate(fd, done);
  return { done, hash, validator, noted: done };
}

/** A file that the server does not tell from another one is worth nothing to the next program. */
function note(host: Host, fd: number, progress: Progress, { partial }: DownloadOptions): void {
  const { done, validator, noted } = progress;
  if (partial === undefined || validator === undefined || done === noted) return;
  host.sync(fd);
  partial.note({ done, validator });
  progress.noted = done;
}

/** A state of the server that may pass. */
class Again extends VmError {
  constructor(message: string) {
    super('Unavailable', message);
  }
}

async function transfer(
  host: Host,
  url: URL,
  fd: number,
  progress: Progress,
  options: DownloadOptions,
): Promise<void> {
  const { signal, limit, onProgress, tuning = TUNING } = options;
  const resume: Record<string, string> =
    progress.done > 0 && progress.validator !== undefined
      ? { range: `bytes=${progress.done}-`, 'if-range': progress.validator }
      : {};
  const got = await httpGet(url, { headers: resume, signal, idleMs: tuning.idleMs });
  const { answer } = got;
  try {
    if (!continues(answer, progress, got.url)) {
      options.partial?.note(undefined);
      host.truncate(fd, 0);
      const fresh: Progress = {
        done: 0,
        hash: createHash('sha256'),
        validator: validatorOf(answer),
        noted: 0,
      };
      Object.assign(progress, fresh);
    }
    const rest = lengthOf(answer);
    const total = rest === undefined ? undefined : progress.done + rest;
    limit.expect(total ?? progress.done);
    for await (const chunk of answer) {
      const bytes = chunk as Buffer;
      limit.check(progress.done + bytes.length);
      host.writeBytes(fd, progress.done, bytes);
      progress.hash.update(bytes);
      progress.done += bytes.length;
      onProgress(progress.done, total);
      if (progress.done - progress.noted >= NOTE_EVERY) note(host, fd, progress, options);
    }
    if (total !== undefined && progress.done !== total)
      throw new Again(`the server announced ${total} bytes and sent ${progress.done}`);
    if (!answer.complete) throw new Again('the connection ended early');
  } finally {
    answer.destroy();
  }
}

/** Whether the answer goes on where we are. @throws VmError for a status that is no answer to our question. */
function continues(answer: IncomingMessage, progress: Progress, url: URL): boolean {
  const status = answer.statusCode ?? 0;
  if (status === 200) return false;
  if (status === 206) {
    const from = /^bytes (\d+)-/.exec(answer.headers['content-range'] ?? '')?.[1];
    if (Number(from) === progress.done) return true;
    throw startOver(progress, `the server sent the range "${answer.headers['content-range'] ?? ''}"`);
  }
  // The file has become shorter than what we have of it.
  if (status === 416) throw startOver(progress, 'the file has changed on the server');
  const said = `${showUrl(url)} answers ${status} ${answer.statusMessage ?? ''}`.trim();
  if (status === 408 || status === 425 || status === 429 || status >= 500) throw new Again(said);
  const gone = status === 404 || status === 410;
  throw new VmError(gone ? 'NotFound' : 'InvalidArgument', `${said}; check the URL and what it asks for`);
}

function startOver(progress: Progress, why: string): Again {
  progress.validator = undefined;
  return new Again(why);
}

/** A weak ETag is no promise that the bytes are the same, so it does not serve here. */
function validatorOf({ headers }: IncomingMessage): string | undefined {
  const { etag } = headers;
  if (etag !== undefined) return etag.startsWith('W/') ? undefined : etag;
  return headers['last-modified'];
}

function lengthOf({ headers }: IncomingMessage): number | undefined {
  const length = headers['content-length'];
  return length !== undefined && /^\d+$/.test(length) ? Number(length) : undefined;
}
