import { VmError } from '../core/errors.ts';
import { exitStatus, type TaskExit } from '../core/exit.ts';
import { signalAction } from '../vm/signals.ts';
import type { Task, TaskIdentity, TaskMetrics, TaskStatus } from './task.ts';

type SandboxState =
  { readonly t: 'created' } | { readonly t: 'running' } | { readonly t: 'stopped'; readonly exit: TaskExit };

const SIGKILL = 9;

/**
 * The task that a pod begins with. Elsewhere it is the pause container; here nothing has to be held open by a process, so
 * it has none: its pid is the shim's own, which lives exactly as long.
 */
export class SandboxTask implements Task {
  readonly request: TaskIdentity;
  readonly stopped: Promise<TaskExit>;
  readonly #metrics: () => Promise<TaskMetrics>;
  readonly #end = Promise.withResolvers<TaskExit>();
  #state: SandboxState = { t: 'created' };

  constructor(request: TaskIdentity, metrics: () => Promise<TaskMetrics>) {
    this.request = request;
    this.#metrics = metrics;
    this.stopped = this.#end.promise;
  }

  get id(): string {
    return this.request.id;
  }

  get pid(): number {
    return process.pid;
  }

  get status(): TaskStatus {
    return this.#state.t;
  }

  get exit(): TaskExit | undefined {
    return this.#state.t === 'stopped' ? this.#state.exit : undefined;
  }

  start(_signal: AbortSignal, started: () => void): Promise<void> {
    if (this.#state.t !== 'created') {
      return Promise.reject(
        new VmError('FailedPrecondition', `cannot start sandbox "${this.id}": it was started before`),
      );
    }
    this.#state = { t: 'running' };
    started();
    return Promise.resolve();
  }

  kill(signal: number): Promise<void> {
    if (this.#state.t === 'stopped') {
      return Promise.reject(new VmError('NotFound', 'process already finished'));
    }
    const action = signalAction(signal);
    if (action === 'kill' || action === 'power-button') this.#stop(signal);
    return Promise.resolve();
  }

  pause(): Promise<void> {
    return Promise.reject(this.#unable('pause'));
  }

  resume(): Promise<void> {
    return Promise.reject(this.#unable('resume'));
  }

  /** kubelet sends the pod's limits here as well; they are the VM's and its cgroup's business. */
  update(): Promise<void> {
    return Promise.resolve();
  }

  metrics(): Promise<TaskMetrics> {
    return this.#metrics();
  }

  closeStdin(): void {
    // It has no input.
  }

  resize(): void {
    // It has no terminal.
  }

  delete(): Promise<TaskExit> {
    if (this.#state.t === 'running') {
      return Promise.reject(
        new VmError('FailedPrecondition', `cannot delete sandbox "${this.id}": it is running; kill it first`),
      );
    }
    this.#stop(SIGKILL);
    return this.stopped;
  }

  release(): Promise<void> {
    this.#stop(SIGKILL);
    return Promise.resolve();
  }

  #stop(signal: number): void {
    if (this.#state.t === 'stopped') return;
    const reason = { kind: 'killed', signal } as const;
    const exit: TaskExit = { status: exitStatus(reason), at: Date.now(), reason };
    this.#state = { t: 'stopped', exit };
    this.#end.resolve(exit);
  }

  #unable(operation: string): VmError {
    return new VmError(
      'FailedPrecondition',
      `cannot ${operation} sandbox "${this.id}": it has no process; ${operation} the VM’s container`,
    );
  }
}
