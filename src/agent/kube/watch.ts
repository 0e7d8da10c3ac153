import { VmError } from '../../core/errors.ts';
import type { KubeApi } from './kube-api.ts';
import { refusalKind } from './kube-api.ts';
import { at, textAt } from './json.ts';

/** One event of a watch; `version` is where the next watch goes on. */
export type WatchEvent =
  | { readonly t: 'changed' | 'deleted'; readonly object: unknown; readonly version: string }
  | { readonly t: 'bookmark'; readonly version: string };

export interface WatchTimes {
  /** After so many seconds the server ends the watch by itself. */
  readonly serverSeconds: number;
  /** So long nothing may come, in milliseconds. The API server sends a bookmark about once a minute. */
  readonly idleMs: number;
}

/**
 * Resolves when the server has begun to tell what changes at `path` after the resource version `since`; the events end
 * when the server ends them, and have to be iterated (Kubernetes API concepts,
 * "Efficient detection of changes"). The client library's own watch drops lines it cannot read, cannot be canceled before
 * its first byte and opens a pool of connections each time.
 * @throws VmError as KubeApi does; FailedPrecondition with `httpStatus` 410 when the version is too old to go on from.
 */
export async function openWatch(
  api: KubeApi,
  request: {
    readonly path: string;
    readonly query: Readonly<Record<string, string>>;
    readonly since: string;
  },
  times: WatchTimes,
  signal: AbortSignal,
): Promise<AsyncGenerator<WatchEvent, void>> {
  const query = {
    ...request.query,
    watch: 'true',
    allowWatchBookmarks: 'true',
    resourceVersion: request.since,
    timeoutSeconds: String(times.serverSeconds),
  };
  const { path } = request;
  return parseEvents(await api.stream({ method: 'GET', path, query }, times.idleMs, signal), path);
}

async function* parseEvents(lines: AsyncIterable<string>, path: string): AsyncGenerator<WatchEvent, void> {
  for await (const line of lines) {
    const event = parseEvent(line, path);
    if (event !== undefined) yield event;
  }
}

function parseEvent(line: string, path: string): WatchEvent | undefined {
  let event: unknown;
  try {
    event = JSON.parse(line);
  } catch (cause) {
    throw new VmError('Unavailable', `the watch of ${path} has a line that is no JSON`, { cause });
  }
  const object = at(event, 'object');
  const version = textAt(object, 'metadata', 'resourceVersion') ?? '';
  switch (at(event, 'type')) {
    case 'ADDED':
    case 'MODIFIED':
      return { t: 'changed', object, version };
    case 'DELETED':
      return { t: 'deleted', object, version };
    case 'BOOKMARK':
      return { t: 'bookmark', version };
    case 'ERROR':
      throw watchError(path, object);
    default:
      // Of a later API; nothing is lost that we know what to do with.
      return undefined;
  }
}

function watchError(path: string, status: unknown): VmError {
  const code = at(status, 'code');
  const httpStatus = typeof code === 'number' ? code : 500;
  const text = textAt(status, 'message') ?? 'without a message';
  return new VmError(refusalKind(httpStatus), `the watch of ${path} ended: ${text}`, {
    cause: { httpStatus },
  });
}
