import { VmError } from '../core/errors.ts';
import type { TaskExit } from '../core/exit.ts';
import type { Pod } from './pod.ts';
import type { PodIdentity } from './pod-identity.ts';
import type { Sandbox } from './sandbox.ts';
import type { SandboxState } from './sandbox-state.ts';
import type { SandboxRequest } from './task-request.ts';

const SIGKILL = 9;
const SIGTERM = 15;

/** CRI's own names of a sandbox's states; containerd takes anything else for an unknown state. */
export type Readiness = 'SANDBOX_READY' | 'SANDBOX_NOTREADY';

export function readiness(state: SandboxState): Readiness {
  switch (state.t) {
    case 'ready':
      return 'SANDBOX_READY';
    case 'created':
    case 'stopping':
    case 'stopped':
      return 'SANDBOX_NOTREADY';
  }
}

export interface SandboxCallsDeps {
  readonly pod: Pod;
  /** Begins the end of this process; returns at once. */
  readonly shutdown: () => void;
}

/** What the calls of the sandbox API do to a pod. */
export class SandboxCalls {
  readonly #pod: Pod;
  readonly #shutdown: () => void;

  constructor({ pod, shutdown }: SandboxCallsDeps) {
    this.#pod = pod;
    this.#shutdown = shutdown;
  }

  create(request: SandboxRequest): Sandbox {
    if (request.id === '')
      throw new VmError('InvalidArgument', 'sandbox_id of CreateSandbox is empty; give the pod’s');
    return this.#pod.createSandbox(request);
  }

  /** The VM itself is the container's; a sandbox that is started is ready to have it. */
  start(id: string): Sandbox {
    const { sandbox } = this.#pod;
    if (sandbox?.id !== id) {
      throw new VmError(
        'FailedPrecondition',
        `cannot start sandbox "${id}": ${sandbox === undefined ? 'no sandbox was' : `only "${sandbox.id}" was`} created here; call CreateSandbox first`,
      );
    }
    sandbox.start();
    return sandbox;
  }

  /** @throws VmError NotFound. */
  find(id: string): Sandbox {
    const { sandbox } = this.#pod;
    if (sandbox?.id === id) return sandbox;
    throw new VmError('NotFound', `sandbox "${id}" is not created in this shim`);
  }

  async wait(id: string): Promise<TaskExit> {
    return await this.find(id).stopped;
  }

  /**
   * Stops the pod's VM and then the sandbox, which stays to be asked about until it is shut down. Again and again is fine,
   * also while another stop waits.
   * @param graceSeconds how long the guest may take to power off; 0, which containerd's CRI sends, pulls the plug.
   */
  async stop(id: string, graceSeconds: number, signal: AbortSignal): Promise<void> {
    const sandbox = this.find(id);
    sandbox.beginStop();
    await this.#pod.stopAll(graceSeconds * 1000, signal);
    sandbox.end(graceSeconds > 0 ? SIGTERM : SIGKILL);
  }

  /**
   * Gives back everything of the pod and ends this process. containerd sends it after a failed create as well, when there
   * is no sandbox: the process must not stay then either.
   */
  async shutdown(id: string): Promise<void> {
    if (this.#pod.sandbox === undefined) {
      if (this.#pod.empty) this.#shutdown();
      return;
    }
    const sandbox = this.find(id);
    sandbox.beginStop();
    await this.#pod.releaseAll();
    sandbox.end(SIGKILL);
    // After the answer is on its way: containerd takes a connection that closes before it for a failure.
    setImmediate(() => this.#shutdown());
  }
}

/** `SandboxStatusResponse.info`: texts for people and tools, by topic. containerd keeps the key `info` for itself. */
export function describeSandbox(sandbox: Sandbox, shimVersion: string): Record<string, string> {
  const { state, pid, netns, pod } = sandbox;
  return {
    pid: String(pid),
    state: readiness(state),
    phase: state.t,
    networkSandboxPath: netns ?? '',
    shimVersion,
    ...(pod !== undefined && { pod: describePod(pod) }),
  };
}

/** As JSON, without the annotations, which CRI shows elsewhere and which may be long. */
function describePod({
  name,
  namespace,
  uid,
  hostname,
  dns,
  portMappings,
  cgroupParent,
  ...pod
}: PodIdentity): string {
  const { overhead, resources } = pod;
  return JSON.stringify({
    name,
    namespace,
    uid,
    hostname,
    dns,
    portMappings,
    cgroupParent,
    overhead,
    resources,
  });
}
