import { VmError } from '../core/errors.ts';
import type { TaskExit } from '../core/exit.ts';
import { signalAction } from '../vm/signals.ts';
import type { Sandbox } from './sandbox.ts';
import type { Task, TaskIdentity, TaskMetrics, TaskStatus } from './task.ts';

const SIGKILL = 9;

/** A sandbox as the task that a pod begins with; elsewhere it is the pause container. */
export class SandboxTask implements Task {
  readonly request: TaskIdentity;
  readonly #sandbox: Sandbox;

  constructor(request: TaskIdentity, sandbox: Sandbox) {
    this.request = request;
    this.#sandbox = sandbox;
  }

  get id(): string {
    return this.request.id;
  }

  get pid(): number {
    return this.#sandbox.pid;
  }

  get status(): TaskStatus {
    switch (this.#sandbox.state.t) {
      case 'created':
        return 'created';
      case 'ready':
      case 'stopping':
        return 'running';
      case 'stopped':
        return 'stopped';
    }
  }

  get exit(): TaskExit | undefined {
    const { state } = this.#sandbox;
    return state.t === 'stopped' ? state.exit : undefined;
  }

  get stopped(): Promise<TaskExit> {
    return this.#sandbox.stopped;
  }

  start(_signal: AbortSignal, started: () => void): Promise<void> {
    return Promise.try(() => {
      this.#sandbox.start();
      started();
    });
  }

  kill(signal: number): Promise<void> {
    if (this.status === 'stopped') {
      return Promise.reject(new VmError('NotFound', 'process already finished'));
    }
    const action = signalAction(signal);
    if (action === 'kill' || action === 'power-button') this.#sandbox.end(signal);
    return Promise.resolve();
  }

  pause(): Promise<void> {
    return Promise.reject(this.#unable('pause'));
  }

  resume(): Promise<void> {
    return Promise.reject(this.#unable('resume'));
  }

  /** It has no storage. */
  watchStalls(): void {}

  /** kubelet sends the pod's limits here as well; they are the VM's and its cgroup's business. */
  update(): Promise<void> {
    return Promise.resolve();
  }

  metrics(): Promise<TaskMetrics> {
    return this.#sandbox.metrics();
  }

  closeStdin(): void {
    // It has no input.
  }

  resize(): void {
    // It has no terminal.
  }

  delete(): Promise<TaskExit> {
    if (this.status === 'running') {
      return Promise.reject(
        new VmError('FailedPrecondition', `cannot delete sandbox "${this.id}": it is running; kill it first`),
      );
    }
    this.#sandbox.end(SIGKILL);
    return this.stopped;
  }

  release(): Promise<void> {
    this.#sandbox.end(SIGKILL);
    return Promise.resolve();
  }

  #unable(operation: string): VmError {
    return new VmError(
      'FailedPrecondition',
      `cannot ${operation} sandbox "${this.id}": it has no process; ${operation} the VM’s container`,
    );
  }
}
