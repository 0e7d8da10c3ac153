import { containerd } from '#wire';
import type { TaskExit } from '../core/exit.ts';
import type { RootfsMount } from '../vm/rootfs-mount.ts';
import type { EventPublisher } from './event-publisher.ts';
import type { Task } from './task.ts';
import { timestamp } from './timestamp.ts';

const messages = containerd.events;

/** The events of the task API in containerd's own terms. Source: containerd api/events/task.proto, core/runtime/events.go. */
export class TaskEvents {
  readonly #publisher: EventPublisher;

  constructor(publisher: EventPublisher) {
    this.#publisher = publisher;
  }

  created(task: Task, rootfs: readonly RootfsMount[]): void {
    const { id: containerId, bundle, stdin, stdout, stderr, terminal } = task.request;
    this.#send('create', 'TaskCreate', messages.TaskCreate, {
      containerId,
      bundle,
      rootfs: rootfs.map((mount) => ({ ...mount, options: [...mount.options] })),
      io: { stdin, stdout, stderr, terminal },
      pid: task.pid,
    });
  }

  started(task: Task): void {
    this.#send('start', 'TaskStart', messages.TaskStart, { containerId: task.id, pid: task.pid });
  }

  exited(task: Task, exit: TaskExit): void {
    if (exit.reason.kind === 'out-of-memory')
      this.#send('oom', 'TaskOOM', messages.TaskOOM, { containerId: task.id });
    this.#send('exit', 'TaskExit', messages.TaskExit, {
      containerId: task.id,
      id: task.id,
      pid: task.pid,
      exitStatus: exit.status,
      exitedAt: timestamp(exit.at),
    });
  }

  deleted(task: Task, exit: TaskExit): void {
    this.#send('delete', 'TaskDelete', messages.TaskDelete, {
      containerId: task.id,
      pid: task.pid,
      exitStatus: exit.status,
      exitedAt: timestamp(exit.at),
      id: task.id,
    });
  }

  paused(task: Task): void {
    this.#send('paused', 'TaskPaused', messages.TaskPaused, { containerId: task.id });
  }

  resumed(task: Task): void {
    this.#send('resumed', 'TaskResumed', messages.TaskResumed, { containerId: task.id });
  }

  #send<T>(
    topic: string,
    name: string,
    type: { encode(message: T): { finish(): Uint8Array } },
    message: T,
  ): void {
    this.#publisher.publish({
      topic: `/tasks/${topic}`,
      typeUrl: `containerd.events.${name}`,
      value: type.encode(message).finish(),
      at: Date.now(),
    });
  }
}
