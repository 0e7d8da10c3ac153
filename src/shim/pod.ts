import { VmError } from '../core/errors.ts';
import type { TaskExit } from '../core/exit.ts';
import type { Logger } from '../core/logger.ts';
import type { PodMaker } from './create-task.ts';
import type { Sandbox } from './sandbox.ts';
import { stopTask } from './stop-task.ts';
import type { TaskEvents } from './task-events.ts';
import type { Task } from './task.ts';
import type { SandboxRequest, TaskRequest } from './task-request.ts';
import type { TaskUpdate } from './task-update.ts';

type Entry =
  | { readonly t: 'creating'; readonly abort: AbortController; readonly settled: Promise<unknown> }
  | { readonly t: 'task'; readonly task: Task; deleting: Promise<TaskExit> | undefined };

/**
 * Everything one shim serves: the tasks of a pod and its sandbox, or the one task of a bare container. The handlers of the
 * task API call it and decide nothing themselves. No call waits for another task's, and none holds a lock.
 */
export class Pod {
  readonly #entries = new Map<string, Entry>();
  readonly #make: PodMaker;
  readonly #events: TaskEvents;
  readonly #log: Logger;
  readonly #onBusy: () => void;
  readonly #onEmpty: () => void;
  /** One that came by the sandbox API; one that is a task is among the entries. */
  #sandbox: Sandbox | undefined;
  #closed = false;

  constructor(deps: {
    make: PodMaker;
    events: TaskEvents;
    log: Logger;
    onBusy: () => void;
    onEmpty: () => void;
  }) {
    this.#make = deps.make;
    this.#events = deps.events;
    this.#log = deps.log;
    this.#onBusy = deps.onBusy;
    this.#onEmpty = deps.onEmpty;
  }

  get empty(): boolean {
    return this.#entries.size === 0 && this.#sandbox === undefined;
  }

  /** The sandbox that came by the sandbox API. */
  get sandbox(): Sandbox | undefined {
    return this.#sandbox;
  }

  /** No task is created from now on: the process ends. */
  close(): void {
    this.#closed = true;
  }

  tasks(): Task[] {
    return [...this.#entries.values()].flatMap((entry) => (entry.t === 'task' ? [entry.task] : []));
  }

  find(id: string): Task | undefined {
    const entry = this.#entries.get(id);
    return entry?.t === 'task' ? entry.task : undefined;
  }

  /** @throws VmError NotFound in the words that containerd's own shim uses. */
  task(id: string, execId = ''): Task {
    const task = this.find(id);
    if (task === undefined) throw new VmError('NotFound', `container "${id}" is not created in this shim`);
    if (execId !== '') throw new VmError('NotFound', `exec "${execId}" does not exist in container "${id}"`);
    return task;
  }

  /** Creates a task with its VM paused before its first instruction; whatever fails or times out leaves nothing. */
  async create(request: TaskRequest, signal: AbortSignal): Promise<Task> {
    const { id } = request;
    this.#expectOpen();
    if (this.#entries.has(id)) throw new VmError('AlreadyExists', `task "${id}" already exists`);
    const abort = new AbortController();
    const creating = this.#createTask(request, AbortSignal.any([signal, abort.signal]));
    this.#onBusy();
    this.#entries.set(id, { t: 'creating', abort, settled: creating.catch(() => undefined) });
    try {
      const task = await creating;
      this.#entries.set(id, { t: 'task', task, deleting: undefined });
      this.#events.created(task, request.rootfs);
      void task.stopped.then((exit) => this.#events.exited(task, exit));
      task.watchStalls((stalled) => (stalled ? this.#events.paused(task) : this.#events.resumed(task)));
      return task;
    } catch (error) {
      this.#forget(id);
      throw error;
    }
  }

  /** @throws VmError AlreadyExists when this shim has a sandbox, whatever its id. */
  createSandbox(request: SandboxRequest): Sandbox {
    this.#expectOpen();
    if (this.#sandbox !== undefined) {
      throw new VmError(
        'AlreadyExists',
        `sandbox "${request.id}" cannot be created: this shim has the sandbox "${this.#sandbox.id}", which already exists; each pod gets a shim of its own`,
      );
    }
    this.#sandbox = this.#make.sandbox(request);
    this.#onBusy();
    return this.#sandbox;
  }

  async start(id: string, execId: string, signal: AbortSignal): Promise<Task> {
    const task = this.task(id, execId);
    await task.start(signal, () => this.#events.started(task));
    return task;
  }

  /** Gives back everything a stopped task holds and forgets it. A create in flight is called off. */
  async delete(id: string, execId: string): Promise<{ task: Task; exit: TaskExit }> {
    const entry = this.#entries.get(id);
    if (entry?.t === 'creating' && execId === '') {
      entry.abort.abort(new VmError('Canceled', `task "${id}" was deleted while it was being created`));
      await entry.settled;
    }
    const task = this.task(id, execId);
    const current = this.#entries.get(id);
    if (current?.t !== 'task') throw new VmError('NotFound', `container "${id}" is not created in this shim`);
    current.deleting ??= this.#delete(task).catch((error: unknown) => {
      current.deleting = undefined;
      throw error;
    });
    return { task, exit: await current.deleting };
  }

  async pause(id: string, signal: AbortSignal): Promise<void> {
    const task = this.task(id);
    await task.pause(signal);
    this.#events.paused(task);
  }

  async resume(id: string, signal: AbortSignal): Promise<void> {
    const task = this.task(id);
    await task.resume(signal);
    this.#events.resumed(task);
  }

  async update(id: string, change: TaskUpdate, signal: AbortSignal): Promise<void> {
    await this.task(id).update(change, signal);
  }

  /**
   * Stops every task and calls off every create. Returns when all are stopped; who stops them again with less grace makes
   * it so sooner.
   * @param graceMs how long a guest may take to power off; 0 is no power button.
   */
  async stopAll(graceMs: number, signal: AbortSignal): Promise<void> {
    await Promise.all([
      ...this.#callOff('its pod was stopped'),
      ...this.tasks().map((task) => stopTask(task, graceMs, signal)),
    ]);
  }

  /** Ends every task by force, gives back all they hold, and forgets them and the sandbox. */
  async releaseAll(): Promise<void> {
    await Promise.all(this.#callOff('its pod was removed'));
    await Promise.all(
      this.tasks().map(async (task) => {
        await task.release();
        // A Delete or another release may have been quicker.
        if (this.find(task.id) === task) await this.delete(task.id, '');
      }),
    );
    this.#sandbox = undefined;
  }

  #callOff(why: string): Promise<unknown>[] {
    return [...this.#entries].flatMap(([id, entry]) => {
      if (entry.t !== 'creating') return [];
      entry.abort.abort(new VmError('Canceled', `task "${id}" was being created when ${why}`));
      return [entry.settled];
    });
  }

  #expectOpen(): void {
    if (this.#closed) throw new VmError('Unavailable', 'this shim is ending; containerd starts another one');
  }

  async #createTask(request: TaskRequest, signal: AbortSignal): Promise<Task> {
    const task = await this.#make.task(request, signal);
    if (!signal.aborted) return task;
    // The caller has given up in the meantime: what it will never hear of must not live on.
    await task.release();
    throw VmError.from(signal.reason, `task "${request.id}" was created too late`);
  }

  async #delete(task: Task): Promise<TaskExit> {
    const exit = await task.delete();
    this.#events.deleted(task, exit);
    this.#log.debug('task deleted', { id: task.id });
    this.#forget(task.id);
    return exit;
  }

  #forget(id: string): void {
    this.#entries.delete(id);
    if (this.empty) this.#onEmpty();
  }
}
