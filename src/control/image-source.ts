import { createHash } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { openSource } from './image-contents.ts';
import { download, type DownloadTuning } from './download.ts';
import type { ImportReport } from './import-report.ts';
import { parseImageUrl, showUrl } from './image-url.ts';
import { openPartialDownload, type PartialDeps, type PartialDownload } from './partial-download.ts';
import { SpaceLimit } from './space-limit.ts';

/** A file that an import works on. */
export interface WorkFile {
  readonly fd: number;
  readonly size: number;
  /** How messages call it. */
  readonly name: string;
}

export interface SourceOptions {
  /** Path or URL. */
  readonly source: string;
  /** 64 hex digits. */
  readonly sha256: string | undefined;
  readonly tempDir: string;
  /** Where a download that ends early waits for the next import of its URL; nothing stays of it without. */
  readonly downloads?: Omit<PartialDeps, 'host'> | undefined;
  readonly maxSize: number;
  readonly tuning?: DownloadTuning | undefined;
}

const CHUNK = 2 ** 20;

/**
 * Opens a file, or downloads one, and checks its checksum before anything else looks at it.
 * @throws VmError InvalidArgument when it is another file than the checksum says; as `download`.
 */
export async function openImportSource(
  host: Host,
  options: SourceOptions,
  files: DisposableStack,
  report: ImportReport,
): Promise<WorkFile> {
  const { source, sha256 } = options;
  const { signal, step, progress } = report;
  const url = parseImageUrl(source);
  if (url === undefined) {
    const { fd } = files.use(openSource(host, source, 'image'));
    const file = { fd, size: host.inspectFd(fd).size, name: `"${source}"` };
    if (sha256 === undefined) return file;
    step('checking the checksum');
    expectChecksum(await hashFile(host, file, signal, progress), sha256, file.name);
    return file;
  }
  const partial = options.downloads && openPartialDownload({ host, ...options.downloads }, url);
  if (partial === undefined) {
    const { fd } = files.use(host.temporaryFile(options.tempDir, 0o644));
    return await downloaded(host, { url, fd, directory: options.tempDir }, options, report);
  }
  const { fd } = files.use(partial);
  const to = { url, fd, directory: options.downloads?.directory ?? options.tempDir, partial };
  try {
    const file = await downloaded(host, to, options, report);
    // From here on it is like any other file of the import.
    partial.forget();
    return file;
  } catch (error) {
    // What went wrong otherwise will do so again.
    if (!VmError.is(error, 'Canceled') && !VmError.is(error, 'Unavailable')) partial.forget();
    throw error;
  }
}

interface Target {
  readonly url: URL;
  readonly fd: number;
  /** Whose file system has to have room. */
  readonly directory: string;
  readonly partial?: PartialDownload;
}

async function downloaded(
  host: Host,
  { url, fd, directory, partial }: Target,
  { sha256, maxSize, tuning }: SourceOptions,
  { signal, step, progress }: ImportReport,
): Promise<WorkFile> {
  const name = showUrl(url);
  const begun = partial?.begun?.done;
  step(begun === undefined ? `downloading ${name}` : `downloading ${name}, of which ${begun} bytes are here`);
  const got = await download(host, url, fd, {
    signal,
    limit: new SpaceLimit(host, directory, maxSize, begun),
    onProgress: progress,
    onRetry: (why) => step(`trying again: ${why}`),
    partial,
    ...(tuning === undefined ? {} : { tuning }),
  });
  if (got.bytes === 0) throw new VmError('InvalidArgument', `${name} is empty; check the URL`);
  if (sha256 !== undefined) expectChecksum(got.sha256, sha256, name);
  return { fd, size: got.bytes, name };
}

function expectChecksum(found: string, wanted: string, name: string): void {
  if (found === wanted) return;
  throw new VmError(
    'InvalidArgument',
    `${name} has the checksum sha256:${found}, not sha256:${wanted}; it is another version or was changed on its way`,
  );
}

async function hashFile(
  host: Host,
  { fd, size }: WorkFile,
  signal: AbortSignal,
  progress: ImportReport['progress'],
): Promise<string> {
  const hash = createHash('sha256');
  for (let at = 0; at < size; at += CHUNK) {
    if (signal.aborted) throw VmError.from(signal.reason);
    hash.update(host.readBytes(fd, at, CHUNK));
    progress(Math.min(size, at + CHUNK), size);
    // Ctrl-C is heard between two turns only.
    await turn();
  }
  return hash.digest('hex');
}
