import type { KubeApi } from './kube-api.ts';
import { at, itemsAt, textAt } from './json.ts';
import { parseStaticUid, type PodView, parsePod } from './pod-view.ts';
import { openWatch, type WatchEvent, type WatchTimes } from './watch.ts';
import { VmError } from '../../core/errors.ts';

const PATH = '/api/v1/pods';
/** The metadata of objects alone. Source: Kubernetes API concepts, "Metadata-only fetches". */
const METADATA_ONLY = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1';
const PAGE = '500';

/** The pods that are bound to one node, and nobody else's: what is watched, listed and patched. */
export class NodePods {
  readonly #api: KubeApi;
  readonly #selector: string;

  constructor(api: KubeApi, nodeName: string) {
    this.#api = api;
    this.#selector = `spec.nodeName=${nodeName}`;
  }

  /**
   * @param notOlderThan a resource version that was seen before; '0' for whatever the server has in its cache, which spares
   * its database, '' for what is true now.
   */
  async list(
    notOlderThan: string,
    signal: AbortSignal,
  ): Promise<{ readonly pods: PodView[]; readonly version: string }> {
    const query = { fieldSelector: this.#selector, resourceVersion: notOlderThan };
    const answer = await this.#api.ask({ method: 'GET', path: PATH, query }, signal);
    return { pods: listItems(answer).map(parsePod), version: listVersion(answer) };
  }

  /**
   * The UIDs of the pods that exist on this node at this moment, by a consistent read, under both names that a static pod
   * has. Everything or an error: garbage collection relies on it.
   */
  async listUids(signal: AbortSignal): Promise<ReadonlySet<string>> {
    const uids = new Set<string>();
    let page = '';
    do {
      const query = {
        fieldSelector: this.#selector,
        limit: PAGE,
        ...(page === '' ? {} : { continue: page }),
      };
      const answer = await this.#api.ask({ method: 'GET', path: PATH, query, accept: METADATA_ONLY }, signal);
      for (const item of listItems(answer)) {
        const uid = textAt(item, 'metadata', 'uid');
        if (uid === undefined) throw new VmError('Unavailable', 'the API server listed a pod without a UID');
        uids.add(uid);
        const staticUid = parseStaticUid(item);
        if (staticUid !== undefined) uids.add(staticUid);
      }
      page = textAt(answer, 'metadata', 'continue') ?? '';
    } while (page !== '');
    return uids;
  }

  openWatch(
    since: string,
    times: WatchTimes,
    signal: AbortSignal,
  ): Promise<AsyncGenerator<WatchEvent, void>> {
    return openWatch(
      this.#api,
      { path: PATH, query: { fieldSelector: this.#selector }, since },
      times,
      signal,
    );
  }
}

function listItems(answer: unknown): readonly unknown[] {
  if (!Array.isArray(at(answer, 'items')))
    throw new VmError('Unavailable', 'the API server answered a list of pods without items');
  return itemsAt(answer, 'items');
}

function listVersion(answer: unknown): string {
  const version = textAt(answer, 'metadata', 'resourceVersion');
  if (version === undefined)
    throw new VmError('Unavailable', 'the API server answered a list of pods without a resource version');
  return version;
}
