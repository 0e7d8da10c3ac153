import type { PodIdentity } from './pod-identity.ts';

/**
 * What containerd would write into config.json if the sandbox were a task: as much of an OCI runtime spec as we read of a
 * sandbox. So a pod means the same whichever way its sandbox is made.
 */
export function sandboxSpec(id: string, pod: PodIdentity, netns: string | undefined): unknown {
  const cri = (key: string): string => `io.kubernetes.cri.${key}`;
  return {
    hostname: pod.hostname,
    annotations: {
      ...pod.annotations,
      // Last, so that no pod takes another one's identity by an annotation.
      [cri('container-type')]: 'sandbox',
      [cri('sandbox-id')]: id,
      [cri('sandbox-uid')]: pod.uid,
      [cri('sandbox-name')]: pod.name,
      [cri('sandbox-namespace')]: pod.namespace,
    },
    linux: {
      cgroupsPath: podCgroupsPath(pod.cgroupParent),
      namespaces: netns === undefined ? [] : [{ type: 'network', path: netns }],
    },
  };
}

/**
 * The pod's own cgroup as an OCI cgroupsPath: kubelet gives a path, or with systemd the bare name of a slice, whose parents
 * are in its name (systemd.slice(5)).
 */
function podCgroupsPath(parent: string): string {
  const slice = /^([^/]+)-[^-/]+\.slice$/.exec(parent);
  if (slice !== null) return `${slice[1] ?? ''}.slice::${parent}`;
  return /^[^/]+\.slice$/.test(parent) ? `/${parent}` : parent;
}
