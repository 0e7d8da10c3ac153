import type { Config } from '../core/config.ts';
import type { Logger } from '../core/logger.ts';
import type { VmSpec } from '../core/vm-spec.ts';
import type { Host } from '../host/host.ts';
import type { Native } from '../host/native.ts';
import type { Rootfs } from './rootfs-mount.ts';
import type { Timeline } from './timeline.ts';

export interface MachineDeps {
  readonly host: Host;
  readonly native: Native;
  readonly log: Logger;
}

export interface MachineRequest {
  readonly spec: VmSpec;
  readonly config: Config;
  readonly bundle: string;
  readonly rootfs: Rootfs;
  /** The pod's network namespace; undefined for a bare container or a pod in the node's own. */
  readonly netns: string | undefined;
  /** Path of the pod's resolv.conf on the host; undefined where there is none. */
  readonly resolvConf: string | undefined;
  /** The socket this shim serves containerd on. */
  readonly shimSocket: string;
  readonly timeline: Timeline;
}
