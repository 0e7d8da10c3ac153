import type { NodeVm } from '../../control/node-vms.ts';
import type { PodView } from '../kube/pod-view.ts';

/** By what a pod and its VM are known to each other. */
export type PodNames = Pick<PodView, 'uid' | 'staticUid' | 'namespace' | 'name'>;

/**
 * Whether a VM is that pod's. A static pod is called by its own UID by kubelet, and so by its VM, while its mirror at the API
 * server has another one and names the first in an annotation (kubelet, "mirror pods"). Whoever may create pods may write
 * that annotation, with any UID: the VM has to be of a pod of that namespace and name as well.
 */
export function isVmOf({ podUid, pod }: Pick<NodeVm, 'podUid' | 'pod'>, of: PodNames): boolean {
  if (podUid === undefined) return false;
  if (podUid === of.uid) return true;
  return podUid === of.staticUid && pod?.namespace === of.namespace && pod.name === of.name;
}
