/** What CRI says of a pod (`runtime.v1.PodSandboxConfig`), parsed; absent texts are empty, as in protobuf. */
export interface PodIdentity {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly hostname: string;
  readonly dns: PodDns;
  readonly portMappings: readonly PodPort[];
  /** All of the pod's, whatever containerd's `pod_annotations` passes to its containers. */
  readonly annotations: Readonly<Record<string, string>>;
  /** The pod's own cgroup as kubelet names it: a path, or a slice of systemd; empty without kubelet. */
  readonly cgroupParent: string;
  /** `overhead.podFixed` of the RuntimeClass. */
  readonly overhead: PodResources;
  /** The sum of the containers' limits. */
  readonly resources: PodResources;
}

/** The lines of the pod's resolv.conf(5). */
export interface PodDns {
  readonly servers: readonly string[];
  readonly searches: readonly string[];
  readonly options: readonly string[];
}

export interface PodPort {
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
  readonly containerPort: number;
  /** 0 where the node has no port for it. */
  readonly hostPort: number;
  readonly hostIp: string;
}

/** 0 means "not said". Quota and period in microseconds. */
export interface PodResources {
  readonly cpuPeriod: number;
  readonly cpuQuota: number;
  readonly cpuShares: number;
  readonly memoryBytes: number;
}
