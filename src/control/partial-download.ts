import { createHash } from 'node:crypto';
import type { Host, OwnedFd } from '../host/host.ts';
import type { Native } from '../host/native.ts';
import { openFlags } from '../host/open-flags.ts';
import { isClaimed } from '../storage/claim-disk.ts';
import { showUrl } from './image-url.ts';

/** How far an earlier import has come with a file. */
export interface Begun {
  /** Bytes that were on the disk when this was noted; what lies behind them counts for nothing. */
  readonly done: number;
  /** `ETag` or `Last-Modified`: what tells whether the server still has the same file. */
  readonly validator: string;
}

/**
 * A download that outlives the program: its file has a name, and a note beside it that says of which URL and how much of it
 * can be relied upon. Closing it takes both away unless something has been noted.
 */
export interface PartialDownload extends Disposable {
  readonly fd: number;
  readonly begun: Begun | undefined;
  /** To be called when so much of the file is flushed, or, with nothing, before what was noted is overwritten. */
  note(begun: Begun | undefined): void;
  /** The file is whole, or of no use: whoever comes next begins anew. The descriptor stays. */
  forget(): void;
}

export interface PartialDeps {
  readonly host: Host;
  readonly native: Pick<Native, 'flock'>;
  /** Where they are kept; made when it is missing. */
  readonly directory: string;
}

/** As long as somebody may come back to a download that ended. */
const KEPT_MS = 7 * 24 * 3600_000;
const { O_RDWR, O_CREAT, O_NOFOLLOW } = openFlags;

/**
 * Opens the file for a URL, with what an earlier import has left of it. Those that nobody came back to are removed.
 * @returns undefined while another import downloads the same.
 */
export function openPartialDownload(deps: PartialDeps, url: URL): PartialDownload | undefined {
  const { host, native, directory } = deps;
  host.makeDir(directory, 0o700);
  removeOld(deps);
  const paths = pathsOf(directory, url);
  for (;;) {
    // A program that converts it is nobody and gets the descriptor; the directory is for root alone.
    const file = host.open(paths.data, O_RDWR | O_CREAT | O_NOFOLLOW, 0o644);
    if (isClaimed(native, file)) {
      file[Symbol.dispose]();
      return undefined;
    }
    // Whoever had it until now may have been through with it, and taken its name away.
    if (host.inspect(paths.data)?.identity === host.inspectFd(file.fd).identity)
      return new NamedFile(host, file, paths, url);
    file[Symbol.dispose]();
  }
}

interface Paths {
  readonly data: string;
  readonly note: string;
}

class NamedFile implements PartialDownload {
  readonly begun: Begun | undefined;
  readonly #host: Host;
  readonly #file: OwnedFd;
  readonly #paths: Paths;
  readonly #url: URL;
  #kept: boolean;
  #named = true;

  constructor(host: Host, file: OwnedFd, paths: Paths, url: URL) {
    this.#host = host;
    this.#file = file;
    this.#paths = paths;
    this.#url = url;
    this.begun = readNote(host, paths.note, host.inspectFd(file.fd).size);
    this.#kept = this.begun !== undefined;
  }

  get fd(): number {
    return this.#file.fd;
  }

  note(begun: Begun | undefined): void {
    if (!this.#named) return;
    this.#kept = begun !== undefined;
    if (begun === undefined) {
      this.#host.remove(this.#paths.note);
      return;
    }
    const text = JSON.stringify({ url: showUrl(this.#url), ...begun });
    this.#host.replaceFile(this.#paths.note, `${text}\n`, 0o600);
  }

  forget(): void {
    if (!this.#named) return;
    this.#named = false;
    removeBoth(this.#host, this.#paths);
  }

  [Symbol.dispose](): void {
    if (!this.#kept) this.forget();
    this.#file[Symbol.dispose]();
  }
}

/** What of the URL may be a secret is in no name and no note; passwords do not tell files apart. */
function pathsOf(directory: string, url: URL): Paths {
  const key = createHash('sha256').update(`${url.origin}${url.pathname}${url.search}`).digest('hex');
  const stem = `${directory}/${key.slice(0, 32)}`;
  return { data: `${stem}.part`, note: `${stem}.json` };
}

/** The note first: without it the data are worth nothing, with it and without them neither. */
function removeBoth(host: Host, { data, note }: Paths): void {
  host.remove(note);
  host.remove(data);
}

/** Undefined for none, for one that is damaged and for one that tells of more than there is. */
function readNote(host: Host, path: string, size: number): Begun | undefined {
  if (host.inspect(path) === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(host.readText(path));
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null || !('done' in value && 'validator' in value))
    return undefined;
  const { done, validator } = value;
  if (typeof done !== 'number' || !Number.isSafeInteger(done) || done <= 0 || done > size) return undefined;
  return typeof validator === 'string' ? { done, validator } : undefined;
}

function removeOld({ host, native, directory }: PartialDeps): void {
  for (const name of host.listDir(directory)) {
    const stem = /^([0-9a-f]{32})\.part$/.exec(name)?.[1];
    const data = `${directory}/${name}`;
    const info = host.inspect(data);
    if (stem === undefined || info === undefined || Date.now() - info.mtimeMs < KEPT_MS) continue;
    using file = host.open(data, O_RDWR | O_NOFOLLOW);
    if (!isClaimed(native, file)) removeBoth(host, { data, note: `${directory}/${stem}.json` });
  }
}
