import type { Config } from '../core/config.ts';
import type { Logger } from '../core/logger.ts';
import type { AnyMessage } from '../core/protobuf-fields.ts';
import type { Host } from '../host/host.ts';
import type { Native } from '../host/native.ts';
import type { RootfsMount } from '../vm/rootfs-mount.ts';
import type { Timeline } from '../vm/timeline.ts';
import type { OciBundle } from './oci-bundle.ts';
import type { PodIdentity } from './pod-identity.ts';
import type { TaskIdentity } from './task.ts';

/** A CreateTaskRequest, parsed. */
export interface TaskRequest extends TaskIdentity {
  readonly rootfs: readonly RootfsMount[];
  readonly options: AnyMessage;
}

/** A CreateSandboxRequest, parsed. */
export interface SandboxRequest {
  readonly id: string;
  readonly bundle: string;
  /** The pod's network namespace; undefined for a pod in the node's own. */
  readonly netns: string | undefined;
  /** Undefined where the caller is not CRI. */
  readonly pod: PodIdentity | undefined;
}

/** What every kind of task is made with. */
export interface CreateTaskDeps {
  readonly host: Host;
  readonly native: Native;
  readonly log: Logger;
  readonly env: NodeJS.ProcessEnv;
  readonly namespace: string;
  /** The bundle that this shim was started for, absolute: the pod's sandbox's, or the bare container's. */
  readonly home: string;
  /** The runtime's options as `start` got them. */
  readonly startOptions: AnyMessage | undefined;
  /** The socket this shim serves containerd on. */
  readonly shimSocket: string;
  readonly timeline: Timeline;
}

/** A request with everything that was read for it. */
export interface PreparedRequest {
  readonly request: TaskRequest;
  readonly bundle: OciBundle;
  readonly config: Config;
}
