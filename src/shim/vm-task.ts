import { VmError } from '../core/errors.ts';
import type { TaskExit } from '../core/exit.ts';
import type { Machine } from '../vm/machine.ts';
import type { Timeline } from '../vm/timeline.ts';
import type { Vm } from '../vm/vm.ts';
import type { ConsoleHub } from './console/console-hub.ts';
import type { TaskStdio, TerminalSize } from './console/task-stdio.ts';
import type { Task, TaskIdentity, TaskMetrics, TaskStatus } from './task.ts';
import type { TaskUpdate } from './task-update.ts';

/**
 * The task of a VM: the VM and its console. It differs from the VM in one thing: its exit becomes
 * visible only after the console's last byte has been delivered, which is what containerd's clients rely on.
 */
export class VmTask implements Task {
  readonly request: TaskIdentity;
  readonly vm: Vm;
  readonly hub: ConsoleHub;
  /** Of the task's creation and its VM's first start. */
  readonly timeline: Timeline;
  /** Settles when the VM has ended for good and the console is drained and closed; never rejects. */
  readonly stopped: Promise<TaskExit>;
  readonly #stdio: TaskStdio;
  readonly #metrics: () => Promise<TaskMetrics>;
  readonly #onExit: (exit: TaskExit) => void;
  readonly #ending = new AbortController();
  #owned: AsyncDisposableStack | undefined;
  #exit: TaskExit | undefined;
  #starting: Promise<undefined> | undefined;

  constructor(parts: {
    request: TaskIdentity;
    vm: Vm;
    hub: ConsoleHub;
    stdio: TaskStdio;
    metrics: () => Promise<TaskMetrics>;
    /** Called with the exit just before it becomes visible. */
    onExit: (exit: TaskExit) => void;
  }) {
    this.request = parts.request;
    this.vm = parts.vm;
    this.hub = parts.hub;
    this.timeline = parts.vm.machine.timeline;
    this.#stdio = parts.stdio;
    this.#metrics = parts.metrics;
    this.#onExit = parts.onExit;
    this.stopped = this.#watchExit();
  }

  get id(): string {
    return this.request.id;
  }

  /** QEMU's; ours while the VM is off. */
  get pid(): number {
    return this.vm.pid;
  }

  /** The one that runs; while the VM is off, the one that ran last. */
  get machine(): Machine {
    return this.vm.machine;
  }

  get status(): TaskStatus {
    if (this.#exit !== undefined) return 'stopped';
    const { power } = this.vm;
    if (power.t !== 'on') return 'running';
    const { state } = this.machine;
    switch (state.t) {
      case 'creating':
      case 'prelaunch':
        return 'created';
      case 'paused':
        // A guest that its storage has stopped is still to run: containerd's CRI plugin gives up a paused task when it is
        // restarted ("unexpected status"), and nobody could unpause it there.
        // The same goes for an operator's pause.
        return state.asked && !power.held ? 'paused' : 'running';
      case 'running':
      case 'ending':
      case 'exited':
        return 'running';
    }
  }

  /** Undefined until the task is stopped. */
  get exit(): TaskExit | undefined {
    return this.#exit;
  }

  /** Takes over what was acquired for this task; `release` gives it back. */
  own(acquired: AsyncDisposableStack): void {
    this.#owned = acquired;
  }

  /**
   * Starts the machine.
   * @param started runs when the guest has begun, before the exit can become visible: containerd wants its start event
   * before the exit event even of a guest that ends at once.
   */
  async start(signal: AbortSignal, started: () => void): Promise<void> {
    if (this.#starting !== undefined)
      throw new VmError('FailedPrecondition', 'cannot start a task that was started before');
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#starting = promise;
    try {
      await this.vm.start(signal);
      this.hub.openInput();
      started();
    } catch (error) {
      this.#starting = undefined;
      throw error;
    } finally {
      resolve(undefined);
    }
  }

  /** @throws VmError NotFound when the task has stopped, as containerd's clients expect. */
  async kill(signal: number, abort: AbortSignal): Promise<void> {
    if (this.#exit !== undefined) throw new VmError('NotFound', 'process already finished');
    await this.vm.signal(signal, abort);
  }

  async pause(signal: AbortSignal): Promise<void> {
    await this.vm.expectOn('pause').pause(signal);
  }

  async resume(signal: AbortSignal): Promise<void> {
    await this.vm.resume(signal);
  }

  watchStalls(listener: (stalled: boolean) => void): void {
    this.vm.watchStalls(listener);
  }

  async update({ cpu, memoryBytes }: TaskUpdate, signal: AbortSignal): Promise<void> {
    await this.vm.update(cpu, memoryBytes, signal);
  }

  metrics(): Promise<TaskMetrics> {
    return this.#metrics();
  }

  closeStdin(): void {
    this.#stdio.closeStdin();
  }

  resize(size: TerminalSize): void {
    this.#stdio.resize(size);
  }

  /**
   * Gives back everything a stopped task holds. A task that was never started is ended first.
   * @throws VmError FailedPrecondition while it runs.
   */
  async delete(): Promise<TaskExit> {
    const { status } = this;
    if (status === 'running' || status === 'paused') {
      throw new VmError(
        'FailedPrecondition',
        `cannot delete task "${this.id}": it is ${status}; kill it first`,
      );
    }
    await this.release();
    return await this.stopped;
  }

  /** Ends the VM if it lives and gives everything back. */
  async release(): Promise<void> {
    this.vm.kill();
    await this.vm.exited;
    // Nobody is going to read what a task still holds that is being taken down by force.
    if (this.#exit === undefined) this.#ending.abort();
    await this.stopped;
    await this.#owned?.disposeAsync();
  }

  async #watchExit(): Promise<TaskExit> {
    const exit = await this.vm.exited;
    await this.#stdio.finish({ signal: this.#ending.signal });
    await this.#starting;
    this.#onExit(exit);
    this.#exit = exit;
    return exit;
  }
}
