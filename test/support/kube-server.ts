import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { type KubeCredentials, makeCredentials } from './kube-credentials.ts';
import { discover, isCollection } from './kube-discovery.ts';
import { mergeConditions, mergePatch } from './kube-patch.ts';
import { tempDir, type Teardown } from './temp-dir.ts';

export type Json = Record<string, unknown>;

export interface Pod extends Json {
  metadata: Json & {
    name: string;
    namespace: string;
    uid: string;
    resourceVersion: string;
    annotations: Record<string, string>;
  };
  spec: Json & { nodeName?: string };
  status: Json & { conditions: Json[] };
}

/** Namespace, name and subresource, as far as there are. */
const PODS = /^\/api\/v1(?:\/namespaces\/([^/]+))?\/pods(?:\/([^/]+))?(?:\/(status))?$/;

interface Change {
  readonly version: number;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly pod: Pod;
}

interface Watcher {
  readonly response: ServerResponse;
  readonly fits: (pod: Pod) => boolean;
}

/**
 * A stand-in for the API server's pods with the semantics that a client meets: resource versions and watches that go on
 * from one, bookmarks, 410 Gone as an event and as a status, conflicts, preconditions, subresources, pages, metadata alone,
 * and connections that break. It never waits and does nothing by itself.
 */
export class KubeServer {
  readonly pods = new Map<string, Pod>();
  /** What else somebody has created, by its path. */
  readonly objects = new Map<string, Json>();
  /** Verbs with resources, such as `patch pods/status`, that somebody has asked for. */
  readonly asked = new Set<string>();
  /** One line per request. */
  readonly requests: string[] = [];
  /** How many lists were asked for what is true now, not for what is in a cache. */
  consistentLists = 0;
  /** What a list that may be answered from a cache has; undefined for what is true now. */
  cache: readonly Pod[] | undefined;
  /** Called before each patch is applied, once per entry. */
  readonly beforePatch: ((pod: Pod) => void)[] = [];
  /** Answered to everything while it is set. */
  outage: number | undefined;
  /** Whether a watch that is too old is refused by its status, as some versions do, not by an event. */
  goneByStatus = false;
  /** Every watch ends when it has begun. */
  endsAtOnce = false;
  /** So many patches are done, and the connection breaks before their answers. */
  loseAnswers = 0;
  /** Told every change of a pod, as watches are. */
  readonly onChange: ((pod: Pod) => void)[] = [];
  /** While it is set, answers are kept back until it resolves. */
  gate: Promise<void> | undefined;
  readonly kubeconfig: string;
  #version = 100;
  /** The oldest version that a watch can go on from. */
  #oldest = 0;
  readonly #changes: Change[] = [];
  readonly #watchers = new Set<Watcher>();
  readonly #onRequest: (() => void)[] = [];

  readonly #authorization: string;

  private constructor(server: Server, credentials: KubeCredentials) {
    const { port } = server.address() as AddressInfo;
    this.kubeconfig = credentials.kubeconfig(port);
    this.#authorization = credentials.authorization;
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      void this.#answer(request, response).catch((error: unknown) => {
        refuse(response, 500, String(error));
      });
    });
  }

  /**
   * Ends with the test.
   * @param listener a socket that listens, where it is to be in another network namespace; the server owns it.
   */
  static async start(t: Teardown, listener?: { readonly fd: number }): Promise<KubeServer> {
    const credentials = makeCredentials(tempDir(t));
    const server = createServer(credentials);
    await new Promise<void>(
      (resolve) => void server.listen(listener ?? { port: 0, host: '127.0.0.1' }, resolve),
    );
    const kube = new KubeServer(server, credentials);
    t.teardown(async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    });
    return kube;
  }

  get version(): string {
    return String(this.#version);
  }

  get watching(): number {
    return this.#watchers.size;
  }

  /** A pod as the scheduler has bound it. */
  addPod(pod: {
    name: string;
    uid: string;
    namespace?: string;
    node?: string;
    annotations?: Record<string, string>;
  }): Pod {
    const { name, uid, namespace = 'default', node = 'node-1', annotations = {} } = pod;
    const made: Pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace, uid, annotations, resourceVersion: '' },
      spec: { nodeName: node, runtimeClassName: 'vm', containers: [{ name: 'vm' }] },
      status: { phase: 'Running', podIP: '10.0.0.9', conditions: [{ type: 'Ready', status: 'True' }] },
    };
    this.pods.set(`${namespace}/${name}`, made);
    this.#note('ADDED', made);
    return made;
  }

  pod(name: string, namespace = 'default'): Pod {
    const pod = this.pods.get(`${namespace}/${name}`);
    if (pod === undefined) throw new Error(`no pod ${namespace}/${name}`);
    return pod;
  }

  /** Somebody else changes a pod. */
  change(name: string, change: (pod: Pod) => void): void {
    const pod = structuredClone(this.pod(name));
    change(pod);
    this.pods.set(`default/${name}`, pod);
    this.#note('MODIFIED', pod);
  }

  annotate(name: string, key: string, value: string): void {
    this.change(name, (pod) => (pod.metadata.annotations[key] = value));
  }

  deletePod(name: string): void {
    const pod = structuredClone(this.pod(name));
    this.pods.delete(`default/${name}`);
    this.#note('DELETED', pod);
  }

  /** Tells every watch how far it is. */
  bookmark(): void {
    this.#version += 1;
    for (const { response } of this.#watchers) writeEvent(response, 'BOOKMARK', bookmark(this.version));
  }

  /** Forgets what changed until now: watches from before are told 410. */
  compact(): void {
    this.#version += 1;
    this.#oldest = this.#version;
    this.#changes.length = 0;
  }

  /** As a server does that lags behind the one asked before. */
  rewind(versions: number): void {
    this.#version -= versions;
  }

  /** The server ends all watches, as after their time. */
  endWatches(): void {
    for (const { response } of [...this.#watchers]) response.end();
    this.#watchers.clear();
  }

  /** All connections break; watches in the middle of an event. */
  breakConnections(): void {
    for (const { response } of this.#watchers) {
      response.write('{"type":"MODIFIED","object":{"metadata":{"name":"half', () => response.destroy());
    }
    this.#watchers.clear();
  }

  /** Resolves when `done` holds; looks whenever something was asked of the server or has changed. */
  async until(done: () => boolean): Promise<void> {
    while (!done()) await new Promise<void>((resolve) => void this.#onRequest.push(resolve));
  }

  #stir(): void {
    for (const resolve of this.#onRequest.splice(0)) resolve();
  }

  #note(type: Change['type'], pod: Pod): void {
    this.#version += 1;
    pod.metadata.resourceVersion = this.version;
    const change: Change = { version: this.#version, type, pod: structuredClone(pod) };
    this.#changes.push(change);
    for (const listener of this.onChange) listener(change.pod);
    for (const { response, fits } of this.#watchers) if (fits(pod)) writeEvent(response, type, change.pod);
    this.#stir();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readBody(request);
    await this.gate;
    const url = new URL(request.url ?? '', 'https://server');
    this.requests.push(`${request.method ?? ''} ${url.pathname}${url.search}`);
    response.once('close', () => this.#stir());
    response.once('finish', () => this.#stir());
    if (this.outage !== undefined) refuse(response, this.outage, 'the test says so');
    else if (request.headers.authorization !== this.#authorization) refuse(response, 401, 'Unauthorized');
    else this.#serve(request, url, body, response);
    this.#stir();
  }

  #serve(request: IncomingMessage, url: URL, body: string, response: ServerResponse): void {
    const [, namespace, name, subresource] = PODS.exec(url.pathname) ?? [];
    const { searchParams: query } = url;
    if (!PODS.test(url.pathname)) this.#object(request.method ?? '', url.pathname, body, response);
    else if (request.method === 'PATCH')
      this.#patch({ namespace, name, subresource, type: request.headers['content-type'] }, body, response);
    else if (name !== undefined) this.#get(`${namespace ?? ''}/${name}`, response);
    else if (query.get('watch') === 'true') this.#watch(query, namespace, response);
    else this.#list(query, namespace, request.headers.accept ?? '', response);
  }

  /** Anything but pods: it is kept as it comes. */
  #object(method: string, path: string, body: string, response: ServerResponse): void {
    const found = discover(path) ?? this.objects.get(path);
    if (method === 'GET' && found !== undefined) send(response, 200, found);
    else if (method === 'POST' && isCollection(path)) {
      const object = JSON.parse(body) as Json & { metadata: { name: string } };
      this.objects.set(`${path}/${object.metadata.name}`, object);
      send(response, 201, object);
    } else refuse(response, 404, 'the server could not find the requested resource');
  }

  #get(key: string, response: ServerResponse): void {
    this.asked.add('get pods');
    const pod = this.pods.get(key);
    if (pod === undefined) refuse(response, 404, `pods "${key}" not found`);
    else send(response, 200, pod);
  }

  #list(
    query: URLSearchParams,
    namespace: string | undefined,
    accept: string,
    response: ServerResponse,
  ): void {
    this.asked.add('list pods');
    const wanted = query.get('resourceVersion') ?? '';
    if (wanted === '') this.consistentLists += 1;
    if (Number(wanted) > this.#version) {
      refuse(response, 504, 'Too large resource version');
      return;
    }
    const cached = wanted === '0' ? this.cache : undefined;
    const all = [...(cached ?? this.pods.values())].filter(selector(query, namespace));
    const from = Number(query.get('continue') ?? 0);
    const limit = query.has('limit') ? Number(query.get('limit')) : all.length;
    const more = from + limit < all.length ? { continue: String(from + limit) } : {};
    const page = all.slice(from, from + limit);
    const metadata = { resourceVersion: this.version, ...more };
    if (accept.includes('as=PartialObjectMetadataList')) {
      const items = page.map((pod) => ({ metadata: pod.metadata }));
      send(response, 200, { kind: 'PartialObjectMetadataList', metadata, items });
    } else send(response, 200, { kind: 'PodList', apiVersion: 'v1', metadata, items: page });
  }

  #watch(query: URLSearchParams, namespace: string | undefined, response: ServerResponse): void {
    this.asked.add('watch pods');
    // A list and a watch in one (Kubernetes API concepts, "Streaming lists").
    const initial = query.get('sendInitialEvents') === 'true';
    const since = initial ? this.#version : Number(query.get('resourceVersion'));
    const gone = since < this.#oldest || since > this.#version;
    if (gone && this.goneByStatus) {
      refuse(response, 410, 'too old resource version');
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    if (gone) {
      const status = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' };
      writeEvent(response, 'ERROR', status);
      response.end();
      return;
    }
    const fits = selector(query, namespace);
    if (initial) {
      for (const pod of this.pods.values()) if (fits(pod)) writeEvent(response, 'ADDED', pod);
      const annotations = { 'k8s.io/initial-events-end': 'true' };
      writeEvent(response, 'BOOKMARK', bookmark(this.version, { annotations }));
    }
    for (const { version, type, pod } of this.#changes)
      if (version > since && fits(pod)) writeEvent(response, type, pod);
    if (this.endsAtOnce) {
      response.end();
      return;
    }
    const watcher = { response, fits };
    this.#watchers.add(watcher);
    response.once('close', () => this.#watchers.delete(watcher));
  }

  #patch(
    at: Record<'namespace' | 'name' | 'subresource' | 'type', string | undefined>,
    body: string,
    response: ServerResponse,
  ): void {
    this.asked.add(at.subresource === undefined ? 'patch pods' : `patch pods/${at.subresource}`);
    const key = `${at.namespace ?? ''}/${at.name ?? ''}`;
    const before = this.pods.get(key);
    if (before !== undefined) this.beforePatch.shift()?.(before);
    const pod = this.pods.get(key);
    if (pod === undefined) {
      refuse(response, 404, `pods "${at.name ?? ''}" not found`);
      return;
    }
    const { metadata = {}, ...patch } = JSON.parse(body) as Json & { metadata?: Json };
    if (metadata['uid'] !== undefined && metadata['uid'] !== pod.metadata.uid)
      refuse(response, 422, 'metadata.uid: Invalid value: field is immutable');
    else if (
      metadata['resourceVersion'] !== undefined &&
      metadata['resourceVersion'] !== pod.metadata.resourceVersion
    )
      refuse(response, 409, 'the object has been modified; please apply your changes to the latest version');
    else if (at.subresource === undefined && at.type === 'application/merge-patch+json')
      this.#store(
        key,
        pod,
        mergePatch(pod, { metadata: { annotations: metadata['annotations'] ?? {} } }) as Pod,
        response,
      );
    else if (at.subresource === 'status' && at.type === 'application/strategic-merge-patch+json')
      this.#store(key, pod, mergeConditions(pod, patch), response);
    else refuse(response, 415, `no such patch: ${at.type ?? ''}`);
  }

  /** A patch that changes nothing makes no new version. */
  #store(key: string, before: Pod, after: Pod, response: ServerResponse): void {
    if (JSON.stringify(before) !== JSON.stringify(after)) {
      this.pods.set(key, after);
      this.#note('MODIFIED', after);
    }
    if (this.loseAnswers > 0) {
      this.loseAnswers -= 1;
      response.destroy();
    } else send(response, 200, after);
  }
}

function selector(query: URLSearchParams, namespace: string | undefined): (pod: Pod) => boolean {
  const [field, value] = (query.get('fieldSelector') ?? '').split('=');
  return (pod) => {
    if (namespace !== undefined && pod.metadata.namespace !== namespace) return false;
    if (field === 'spec.nodeName') return pod.spec.nodeName === value;
    return field === 'metadata.name' ? pod.metadata.name === value : true;
  };
}

async function readBody(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request as AsyncIterable<Buffer>) text += chunk.toString();
  return text;
}

function bookmark(resourceVersion: string, more: object = {}): Json {
  return { kind: 'Pod', apiVersion: 'v1', metadata: { resourceVersion, ...more } };
}

function writeEvent(response: ServerResponse, type: string, object: unknown): void {
  response.write(`${JSON.stringify({ type, object })}\n`);
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

function refuse(response: ServerResponse, code: number, message: string): void {
  const reason = code === 404 ? { reason: 'NotFound' } : {};
  send(response, code, { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, message, ...reason });
}
