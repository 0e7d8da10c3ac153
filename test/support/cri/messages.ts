/**
 * Messages of runtime-v1.proto as TypeScript sees them. What we send may leave fields out; what we get has every field,
 * scalars with their defaults and absent messages as null. Times are nanoseconds since 1970, enums their names.
 */

export type StringMap = Readonly<Record<string, string>>;

export interface PodSandboxConfig {
  readonly metadata: PodMetadata;
  readonly hostname?: string;
  readonly logDirectory?: string;
  readonly dnsConfig?: { readonly servers?: readonly string[]; readonly searches?: readonly string[] };
  readonly portMappings?: readonly PortMapping[];
  readonly labels?: StringMap;
  readonly annotations?: StringMap;
  readonly linux?: {
    readonly cgroupParent?: string;
    readonly securityContext?: {
      readonly namespaceOptions?: NamespaceOptions;
      readonly privileged?: boolean;
    };
    readonly overhead?: Resources;
    readonly resources?: Resources;
  };
}

export interface PodMetadata {
  readonly name: string;
  readonly uid: string;
  readonly namespace: string;
  readonly attempt: number;
}

export interface PortMapping {
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
  readonly containerPort: number;
  readonly hostPort: number;
  readonly hostIp?: string;
}

export interface NamespaceOptions {
  readonly network?: NamespaceMode;
  readonly pid?: NamespaceMode;
  readonly ipc?: NamespaceMode;
}

export type NamespaceMode = 'POD' | 'CONTAINER' | 'NODE' | 'TARGET';

/** CPU times in microseconds. */
export interface Resources {
  readonly cpuPeriod?: number;
  readonly cpuQuota?: number;
  readonly cpuShares?: number;
  readonly memoryLimitInBytes?: number;
  readonly oomScoreAdj?: number;
  readonly cpusetCpus?: string;
  readonly cpusetMems?: string;
}

export interface ContainerMetadata {
  readonly name: string;
  readonly attempt: number;
}

export interface ContainerConfig {
  readonly metadata: ContainerMetadata;
  readonly image: { readonly image: string };
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly envs?: readonly { readonly key: string; readonly value: string }[];
  readonly mounts?: readonly Mount[];
  readonly devices?: readonly {
    readonly containerPath: string;
    readonly hostPath: string;
    readonly permissions: string;
  }[];
  readonly labels?: StringMap;
  readonly annotations?: StringMap;
  /** Relative to the sandbox's log directory. */
  readonly logPath?: string;
  readonly stdin?: boolean;
  readonly stdinOnce?: boolean;
  readonly tty?: boolean;
  readonly linux?: {
    readonly resources?: Resources;
    readonly securityContext?: {
      readonly capabilities?: { readonly addCapabilities?: readonly string[] };
      readonly namespaceOptions?: NamespaceOptions;
      readonly privileged?: boolean;
    };
  };
}

export interface Mount {
  readonly containerPath: string;
  readonly hostPath: string;
  readonly readonly?: boolean;
}

export interface PodSandboxStatus {
  readonly id: string;
  readonly metadata: PodMetadata;
  readonly state: 'SANDBOX_READY' | 'SANDBOX_NOTREADY';
  readonly createdAt: number;
  /** Null-like (an empty ip) on the host's network. */
  readonly network: {
    readonly ip: string;
    readonly additionalIps: readonly { readonly ip: string }[];
  } | null;
  readonly annotations: StringMap;
  readonly runtimeHandler: string;
}

export interface PodSandboxItem {
  readonly id: string;
  readonly metadata: PodMetadata;
  readonly state: PodSandboxStatus['state'];
  readonly runtimeHandler: string;
}

export type ContainerState =
  'CONTAINER_CREATED' | 'CONTAINER_RUNNING' | 'CONTAINER_EXITED' | 'CONTAINER_UNKNOWN';

export interface ContainerItem {
  readonly id: string;
  readonly podSandboxId: string;
  readonly metadata: ContainerMetadata;
  readonly state: ContainerState;
}

export interface ContainerStatus {
  readonly id: string;
  readonly metadata: ContainerMetadata;
  readonly state: ContainerState;
  readonly createdAt: number;
  readonly startedAt: number;
  readonly finishedAt: number;
  readonly exitCode: number;
  readonly reason: string;
  readonly message: string;
  readonly annotations: StringMap;
  readonly mounts: readonly Mount[];
  /** Absolute. */
  readonly logPath: string;
}

interface Value {
  readonly value: number;
}

/** One of GetContainerEvents; the id of a container, or of a sandbox. */
export interface ContainerEvent {
  readonly containerId: string;
  readonly containerEventType:
    | 'CONTAINER_CREATED_EVENT'
    | 'CONTAINER_STARTED_EVENT'
    | 'CONTAINER_STOPPED_EVENT'
    | 'CONTAINER_DELETED_EVENT';
  readonly podSandboxStatus: PodSandboxStatus | null;
  readonly containersStatuses: readonly ContainerStatus[];
}

export interface CpuUsage {
  readonly timestamp: number;
  readonly usageCoreNanoSeconds: Value | null;
  readonly usageNanoCores: Value | null;
}

export interface MemoryUsage {
  readonly timestamp: number;
  readonly workingSetBytes: Value | null;
  readonly availableBytes: Value | null;
  readonly usageBytes: Value | null;
  readonly rssBytes: Value | null;
}

export interface ContainerStats {
  readonly attributes: { readonly id: string; readonly metadata: ContainerMetadata };
  readonly cpu: CpuUsage | null;
  readonly memory: MemoryUsage | null;
}

export interface InterfaceUsage {
  readonly name: string;
  readonly rxBytes: Value | null;
  readonly txBytes: Value | null;
}

export interface PodSandboxStats {
  readonly attributes: { readonly id: string; readonly metadata: PodMetadata };
  readonly linux: {
    readonly cpu: CpuUsage | null;
    readonly memory: MemoryUsage | null;
    readonly network: { readonly defaultInterface: InterfaceUsage | null } | null;
    readonly containers: readonly ContainerStats[];
  } | null;
}

export interface Image {
  readonly id: string;
  readonly repoTags: readonly string[];
  readonly size: number;
}

interface PodId {
  readonly podSandboxId: string;
}

interface ContainerId {
  readonly containerId: string;
}

interface Verbose {
  readonly verbose?: boolean;
}

type Nothing = Record<string, never>;

/** Request and response of each method. */
export interface CriMethods {
  Version: [
    { readonly version?: string },
    { readonly runtimeName: string; readonly runtimeVersion: string; readonly runtimeApiVersion: string },
  ];
  Status: [
    Verbose,
    {
      readonly status: {
        readonly conditions: readonly {
          readonly type: string;
          readonly status: boolean;
          readonly reason: string;
          readonly message: string;
        }[];
      };
      readonly info: StringMap;
    },
  ];
  RunPodSandbox: [{ readonly config: PodSandboxConfig; readonly runtimeHandler?: string }, PodId];
  StopPodSandbox: [PodId, Nothing];
  RemovePodSandbox: [PodId, Nothing];
  PodSandboxStatus: [PodId & Verbose, { readonly status: PodSandboxStatus; readonly info: StringMap }];
  ListPodSandbox: [
    { readonly filter?: { readonly id?: string; readonly labelSelector?: StringMap } },
    { readonly items: readonly PodSandboxItem[] },
  ];
  PodSandboxStats: [PodId, { readonly stats: PodSandboxStats }];
  PortForward: [PodId & { readonly port: readonly number[] }, { readonly url: string }];
  CreateContainer: [
    PodId & { readonly config: ContainerConfig; readonly sandboxConfig: PodSandboxConfig },
    ContainerId,
  ];
  StartContainer: [ContainerId, Nothing];
  StopContainer: [ContainerId & { readonly timeout: number }, Nothing];
  RemoveContainer: [ContainerId, Nothing];
  ListContainers: [
    { readonly filter?: { readonly id?: string; readonly podSandboxId?: string } },
    { readonly containers: readonly ContainerItem[] },
  ];
  ContainerStatus: [ContainerId & Verbose, { readonly status: ContainerStatus; readonly info: StringMap }];
  ContainerStats: [ContainerId, { readonly stats: ContainerStats }];
  UpdateContainerResources: [ContainerId & { readonly linux: Resources }, Nothing];
  ReopenContainerLog: [ContainerId, Nothing];
  ExecSync: [
    ContainerId & { readonly cmd: readonly string[]; readonly timeout?: number },
    { readonly stdout: Buffer; readonly stderr: Buffer; readonly exitCode: number },
  ];
  Exec: [
    ContainerId & { readonly cmd: readonly string[]; readonly stdout?: boolean; readonly stderr?: boolean },
    { readonly url: string },
  ];
  Attach: [
    ContainerId & {
      readonly stdin?: boolean;
      readonly tty?: boolean;
      readonly stdout?: boolean;
      readonly stderr?: boolean;
    },
    { readonly url: string },
  ];
  ListImages: [Nothing, { readonly images: readonly Image[] }];
  ImageStatus: [{ readonly image: { readonly image: string } }, { readonly image: Image | null }];
  RemoveImage: [{ readonly image: { readonly image: string } }, Nothing];
}
