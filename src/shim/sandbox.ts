import { VmError } from '../core/errors.ts';
import { exitStatus, type TaskExit } from '../core/exit.ts';
import type { PodIdentity } from './pod-identity.ts';
import { next, type SandboxState } from './sandbox-state.ts';
import type { TaskMetrics } from './task.ts';

/** What is known of a sandbox when it is made. */
export interface SandboxParts {
  readonly id: string;
  readonly bundle: string;
  /** The pod's network namespace; undefined for a pod in the node's own. */
  readonly netns: string | undefined;
  /** Host file with the pod's DNS settings; undefined where nobody gave any. */
  readonly resolvConf: string | undefined;
  /** What CRI says of the pod; undefined where the sandbox is a task, whose config.json says it. */
  readonly pod: PodIdentity | undefined;
  readonly metrics: () => Promise<TaskMetrics>;
}

/**
 * A pod's sandbox: what its containers share. Elsewhere a pause process holds it open; here nothing has to be held, so its
 * pid is the shim's own, which lives exactly as long. containerd reaches it as a task (`SandboxTask`) or through the
 * sandbox API (`SandboxApi`), one of the two.
 */
export class Sandbox {
  readonly id: string;
  readonly bundle: string;
  readonly netns: string | undefined;
  readonly resolvConf: string | undefined;
  readonly pod: PodIdentity | undefined;
  readonly metrics: () => Promise<TaskMetrics>;
  /** Settles when it is stopped; never rejects. */
  readonly stopped: Promise<TaskExit>;
  readonly #end = Promise.withResolvers<TaskExit>();
  #state: SandboxState = { t: 'created', createdAt: Date.now() };

  constructor({ id, bundle, netns, resolvConf, pod, metrics }: SandboxParts) {
    this.id = id;
    this.bundle = bundle;
    this.netns = netns;
    this.resolvConf = resolvConf;
    this.pod = pod;
    this.metrics = metrics;
    this.stopped = this.#end.promise;
  }

  get state(): SandboxState {
    return this.#state;
  }

  get pid(): number {
    return process.pid;
  }

  /** @throws VmError FailedPrecondition when it was started before. */
  start(): void {
    if (this.#state.t !== 'created') {
      throw new VmError(
        'FailedPrecondition',
        `cannot start sandbox "${this.id}": it was started before and is ${this.#state.t} now`,
      );
    }
    this.#state = next(this.#state, { t: 'started' });
  }

  /** From now on no container joins. */
  beginStop(): void {
    this.#state = next(this.#state, { t: 'stop-begun' });
  }

  /** Ends it as if a signal had ended its process; a stopped one stays as it is. */
  end(signal: number): void {
    const reason = { kind: 'killed', signal } as const;
    this.#state = next(this.#state, {
      t: 'ended',
      exit: { status: exitStatus(reason), at: Date.now(), reason },
    });
    if (this.#state.t === 'stopped') this.#end.resolve(this.#state.exit);
  }

  /** @throws VmError FailedPrecondition unless containers may join. */
  expectReady(container: string): void {
    if (this.#state.t === 'ready') return;
    throw new VmError(
      'FailedPrecondition',
      `cannot create container "${container}": its pod’s sandbox "${this.id}" is ${this.#state.t}, not ready; run the pod again`,
    );
  }
}
