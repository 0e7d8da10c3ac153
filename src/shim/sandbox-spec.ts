import type { PodDns, PodIdentity } from './pod-identity.ts';

/** Where a sandbox's files are that containerd would make if the sandbox were a task. */
export interface SandboxPlaces {
  /** The pod's network namespace; undefined for a pod in the node's own. */
  readonly netns: string | undefined;
  /** The pod's resolv.conf; undefined where CRI gave no DNS settings. */
  readonly resolvConf: string | undefined;
}

/**
 * What containerd would write into config.json if the sandbox were a task: as much of an OCI runtime spec as we read of a
 * sandbox. So a pod means the same whichever way its sandbox is made.
 */
export function sandboxSpec(id: string, pod: PodIdentity, { netns, resolvConf }: SandboxPlaces): unknown {
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
    mounts:
      resolvConf === undefined
        ? []
        : [{ destination: '/etc/resolv.conf', type: 'bind', source: resolvConf, options: ['rbind', 'ro'] }],
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

/** A pod's DNS settings as resolv.conf(5); undefined where there are none. */
export function resolvConfText({ servers, searches, options }: PodDns): string | undefined {
  const lines = [
    ...(searches.length > 0 ? [`search ${searches.join(' ')}`] : []),
    ...servers.map((server) => `nameserver ${server}`),
    ...(options.length > 0 ? [`options ${options.join(' ')}`] : []),
  ];
  return lines.length === 0 ? undefined : `${lines.join('\n')}\n`;
}
