import type { TaskExit } from '../core/exit.ts';
import type { TerminalSize } from './console/task-stdio.ts';
import type { TaskUpdate } from './task-update.ts';

export type TaskStatus = 'created' | 'running' | 'paused' | 'stopped';

/** The part of a CreateTaskRequest that State gives back. */
export interface TaskIdentity {
  readonly id: string;
  readonly bundle: string;
  readonly terminal: boolean;
  readonly stdin: string;
  readonly stdout: string;
  readonly stderr: string;
}

/** google.protobuf.Any of a cgroups.v1 or v2 Metrics. */
export interface TaskMetrics {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

/** What containerd calls a task: a VM, or the sandbox that a pod begins with. */
export interface Task {
  readonly id: string;
  readonly request: TaskIdentity;
  /** A live process of the host for as long as the task is not stopped. */
  readonly pid: number;
  readonly status: TaskStatus;
  /** Undefined until the task is stopped. */
  readonly exit: TaskExit | undefined;
  /** Settles when the task is stopped; never rejects. */
  readonly stopped: Promise<TaskExit>;
  /**
   * @param started runs when the task has begun, before its exit can become visible: containerd wants its start event
   * before the exit event even of a task that ends at once.
   * @throws VmError FailedPrecondition for a task that was started before.
   */
  start(signal: AbortSignal, started: () => void): Promise<void>;
  /** @throws VmError NotFound when the task has stopped, as containerd's clients expect. */
  kill(signal: number, abort: AbortSignal): Promise<void>;
  pause(signal: AbortSignal): Promise<void>;
  resume(signal: AbortSignal): Promise<void>;
  /** Calls `listener` when the task stands still by nobody's request, for its storage fails, and when that is over. */
  watchStalls(listener: (stalled: boolean) => void): void;
  update(change: TaskUpdate, signal: AbortSignal): Promise<void>;
  metrics(): Promise<TaskMetrics>;
  closeStdin(): void;
  resize(size: TerminalSize): void;
  /**
   * Gives back everything a stopped task holds. A task that was never started is ended first.
   * @throws VmError FailedPrecondition while it runs.
   */
  delete(): Promise<TaskExit>;
  /** Ends the task if it lives and gives everything back. */
  release(): Promise<void>;
}
