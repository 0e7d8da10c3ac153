import { VmError } from '../../core/errors.ts';
import { BackOff } from '../kube/back-off.ts';
import { at, itemsAt, textAt } from '../kube/json.ts';
import { httpStatus, type KubeApi } from '../kube/kube-api.ts';
import { REQUEST_ANNOTATION } from '../kube/pod-view.ts';
import { openWatch } from '../kube/watch.ts';

const WATCH = { serverSeconds: 300, idleMs: 180_000 };
const BACK_OFF = { first: 500, most: 10_000 };

/** Pods as an operator asks for them, through the API server alone. Objects are as the server sends them. */
export class PodClient {
  readonly #api: KubeApi;

  constructor(api: KubeApi) {
    this.#api = api;
  }

  /** @param namespace undefined for all. */
  async list(namespace: string | undefined, signal: AbortSignal): Promise<readonly unknown[]> {
    return itemsAt(await this.#api.ask({ method: 'GET', path: podsPath(namespace) }, signal), 'items');
  }

  /** @throws VmError NotFound. */
  async get(namespace: string, name: string, signal: AbortSignal): Promise<unknown> {
    try {
      return await this.#api.ask({ method: 'GET', path: podPath(namespace, name) }, signal);
    } catch (error) {
      if (httpStatus(error) !== 404) throw error;
      throw new VmError(
        'NotFound',
        `there is no pod "${name}" in namespace "${namespace}"; "kubectl vm list -A" shows VMs`,
        { cause: error },
      );
    }
  }

  /** Writes the request into the pod, in the place of an earlier one. */
  async request(pod: unknown, request: object, signal: AbortSignal): Promise<unknown> {
    const namespace = textAt(pod, 'metadata', 'namespace') ?? 'default';
    const name = textAt(pod, 'metadata', 'name') ?? '';
    const annotations = { [REQUEST_ANNOTATION]: JSON.stringify(request) };
    // A pod of that name made meanwhile is not the one that was meant.
    const value = { metadata: { uid: textAt(pod, 'metadata', 'uid'), annotations } };
    const body = { type: 'application/merge-patch+json', value };
    return await this.#api.ask({ method: 'PATCH', path: podPath(namespace, name), body }, signal);
  }

  /** The pod as it is, and whenever it has changed, across broken connections; ends when it is gone. */
  async *follow(pod: unknown, signal: AbortSignal): AsyncGenerator<unknown, void> {
    const namespace = textAt(pod, 'metadata', 'namespace') ?? 'default';
    const name = textAt(pod, 'metadata', 'name') ?? '';
    const uid = textAt(pod, 'metadata', 'uid');
    const backOff = new BackOff(BACK_OFF);
    for (;;) {
      try {
        const query = { fieldSelector: `metadata.name=${name}` };
        const path = podsPath(namespace);
        const list = await this.#api.ask({ method: 'GET', path, query }, signal);
        const now = itemsAt(list, 'items').find((item) => textAt(item, 'metadata', 'uid') === uid);
        if (now === undefined) return;
        yield now;
        const since = textAt(list, 'metadata', 'resourceVersion') ?? '';
        for await (const event of await openWatch(this.#api, { path, query, since }, WATCH, signal)) {
          if (event.t === 'bookmark' || textAt(event.object, 'metadata', 'uid') !== uid) continue;
          backOff.reset();
          if (event.t === 'deleted') return;
          yield event.object;
        }
      } catch (error) {
        const lasting = VmError.is(error, 'PermissionDenied') || VmError.is(error, 'InvalidArgument');
        if (signal.aborted || lasting || !VmError.is(error)) throw error;
      }
      await backOff.wait(signal);
    }
  }
}

/** Whether a pod is a VM: the agent has said so, or it is of that RuntimeClass. */
export function isVm(pod: unknown, runtimeClass: string): boolean {
  if (textAt(pod, 'spec', 'runtimeClassName') === runtimeClass) return true;
  return itemsAt(pod, 'status', 'conditions').some((item) => at(item, 'type') === 'vmshim.io/PoweredOn');
}

/** Whether somebody who attaches to the pod can type. */
export function hasStdin(pod: unknown): boolean {
  return itemsAt(pod, 'spec', 'containers').some((container) => at(container, 'stdin') === true);
}

function podsPath(namespace: string | undefined): string {
  return namespace === undefined
    ? '/api/v1/pods'
    : `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`;
}

function podPath(namespace: string, name: string): string {
  return `${podsPath(namespace)}/${encodeURIComponent(name)}`;
}
