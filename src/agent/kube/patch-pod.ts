import type { KubeApi } from './kube-api.ts';
import { type Condition, parsePod, POWERED_ON, type PodView, STATUS_ANNOTATION } from './pod-view.ts';

type PodName = Pick<PodView, 'namespace' | 'name'>;

function pathOf({ namespace, name }: PodName): string {
  return `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}`;
}

export async function getPod(api: KubeApi, pod: PodName, signal: AbortSignal): Promise<PodView> {
  return parsePod(await api.ask({ method: 'GET', path: pathOf(pod) }, signal));
}

/**
 * Writes an annotation, if the pod is still as we saw it: a status must never stand beside a request that it does not
 * belong to, nor on another pod of the same name.
 * @throws VmError Aborted (409) when it is not, NotFound when it is gone.
 */
export async function annotatePod(
  api: KubeApi,
  pod: PodView,
  status: string,
  signal: AbortSignal,
): Promise<PodView> {
  const { uid, resourceVersion } = pod;
  const value = { metadata: { uid, resourceVersion, annotations: { [STATUS_ANNOTATION]: status } } };
  const body = { type: 'application/merge-patch+json', value };
  return parsePod(await api.ask({ method: 'PATCH', path: pathOf(pod), body }, signal));
}

/**
 * Sets the condition; kubelet and controllers keep theirs, since a strategic merge joins conditions by their type.
 * @param changed when its status last changed; undefined to leave that as it is.
 * @throws VmError as annotatePod.
 */
export async function setCondition(
  api: KubeApi,
  pod: PodView,
  condition: Condition,
  changed: Date | undefined,
  signal: AbortSignal,
): Promise<PodView> {
  const { uid, resourceVersion } = pod;
  const time = changed === undefined ? {} : { lastTransitionTime: seconds(changed) };
  const value = {
    metadata: { uid, resourceVersion },
    status: { conditions: [{ type: POWERED_ON, ...condition, ...time }] },
  };
  const body = { type: 'application/strategic-merge-patch+json', value };
  return parsePod(await api.ask({ method: 'PATCH', path: `${pathOf(pod)}/status`, body }, signal));
}

/** metav1.Time has no fractions of seconds. */
function seconds(time: Date): string {
  return `${time.toISOString().slice(0, 19)}Z`;
}
