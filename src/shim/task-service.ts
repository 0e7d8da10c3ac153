import { containerd, google } from '#wire';
import { VmError } from '../core/errors.ts';
import type { MethodDefinition } from '../ttrpc/server.ts';
import type { TaskRequest } from './task-request.ts';
import type { Pod } from './pod.ts';
import { parseTaskUpdate } from './task-update.ts';
import type { Task, TaskStatus } from './task.ts';
import { timestamp } from './timestamp.ts';
import { unary } from './unary-method.ts';

const wire = containerd.task;
const Empty = google.protobuf.Empty;
const { Status } = containerd.v1.types;

/** Both names of the task API; their messages are the same. */
export const TASK_SERVICES = ['containerd.task.v2.Task', 'containerd.task.v3.Task'] as const;

export interface TaskServiceDeps {
  readonly pod: Pod;
  /** Begins the end of this process; returns at once. */
  readonly shutdown: () => void;
}

/**
 * The task API of containerd's runtime v2, version 2 and 3 alike: decode, call the pod, encode. Decisions are the
 * pod's. Source: containerd api/runtime/task/v3/shim.proto and the semantics of containerd-shim-runc-v2.
 */
export function taskService({ pod, shutdown }: TaskServiceDeps): Record<string, MethodDefinition> {
  return {
    Create: unary(wire.CreateTaskRequest, wire.CreateTaskResponse, async (request, call) => {
      const { pid } = await pod.create(createRequest(request), call.signal);
      return { pid };
    }),
    Start: unary(wire.StartRequest, wire.StartResponse, async ({ id, execId }, call) => {
      const { pid } = await pod.start(id, execId, call.signal);
      return { pid };
    }),
    Delete: unary(wire.DeleteRequest, wire.DeleteResponse, async ({ id, execId }) => {
      const { task, exit } = await pod.delete(id, execId);
      return { pid: task.pid, exitStatus: exit.status, exitedAt: timestamp(exit.at) };
    }),
    State: unary(wire.StateRequest, wire.StateResponse, ({ id, execId }) => stateOf(pod.task(id, execId))),
    Wait: unary(wire.WaitRequest, wire.WaitResponse, async ({ id, execId }) => {
      const exit = await pod.task(id, execId).stopped;
      return { exitStatus: exit.status, exitedAt: timestamp(exit.at) };
    }),
    Kill: unary(wire.KillRequest, Empty, async ({ id, execId, signal }, call) => {
      await pod.task(id, execId).kill(signal, call.signal);
      return {};
    }),
    Pids: unary(wire.PidsRequest, wire.PidsResponse, ({ id }) => {
      const task = pod.task(id);
      // Never empty: containerd 1.7 and later that has been restarted takes a shim without processes for a leaked one, and
      // deletes its task before anybody has read the exit. After the VM's end, what stands for the task is the shim.
      return { processes: [{ pid: task.status === 'stopped' ? process.pid : task.pid }] };
    }),
    Pause: unary(wire.PauseRequest, Empty, async ({ id }, call) => {
      await pod.pause(id, call.signal);
      return {};
    }),
    Resume: unary(wire.ResumeRequest, Empty, async ({ id }, call) => {
      await pod.resume(id, call.signal);
      return {};
    }),
    CloseIO: unary(wire.CloseIORequest, Empty, ({ id, execId, stdin }) => {
      const task = pod.task(id, execId);
      if (stdin) task.closeStdin();
      return {};
    }),
    ResizePty: unary(wire.ResizePtyRequest, Empty, ({ id, execId, width, height }) => {
      pod.task(id, execId).resize({ width, height });
      return {};
    }),
    Update: unary(wire.UpdateTaskRequest, Empty, async ({ id, resources }, call) => {
      await pod.update(id, parseTaskUpdate(resources?.value), call.signal);
      return {};
    }),
    Stats: unary(wire.StatsRequest, wire.StatsResponse, async ({ id }) => ({
      stats: await pod.task(id).metrics(),
    })),
    Connect: unary(wire.ConnectRequest, wire.ConnectResponse, ({ id }) => ({
      shimPid: process.pid,
      taskPid: pod.find(id)?.pid ?? 0,
      version: '',
    })),
    Exec: unary(wire.ExecProcessRequest, Empty, ({ id }) => {
      pod.task(id);
      throw new VmError(
        'FailedPrecondition',
        `cannot run a command inside VM "${id}": that needs the QEMU guest agent or an SSH server in the guest, and this version speaks to neither; use the console (vmctl console) instead`,
      );
    }),
    Checkpoint: unary(wire.CheckpointTaskRequest, Empty, ({ id }) => {
      pod.task(id);
      throw new VmError('Unimplemented', 'checkpoint is not implemented for VMs');
    }),
    Shutdown: unary(wire.ShutdownRequest, Empty, () => {
      // containerd 1.6 to 2.2 sends one after each deleted task of a pod; only the last one means it.
      if (pod.empty) shutdown();
      return {};
    }),
  };
}

function createRequest(request: containerd.task.CreateTaskRequest): TaskRequest {
  if (request.checkpoint !== '')
    throw new VmError('Unimplemented', 'a VM cannot be restored from a checkpoint');
  return {
    id: request.id,
    bundle: request.bundle,
    rootfs: request.rootfs.map(({ type, source, target, options }) => ({
      type: type ?? '',
      source: source ?? '',
      target: target ?? '',
      options: options ?? [],
    })),
    terminal: request.terminal,
    stdin: request.stdin,
    stdout: request.stdout,
    stderr: request.stderr,
    options: { typeUrl: request.options?.typeUrl ?? '', value: request.options?.value ?? new Uint8Array() },
  };
}

const STATUS: Readonly<Record<TaskStatus, containerd.v1.types.Status>> = {
  created: Status.CREATED,
  running: Status.RUNNING,
  paused: Status.PAUSED,
  stopped: Status.STOPPED,
};

function stateOf(task: Task): containerd.task.StateResponse.$Properties {
  const { exit } = task;
  const { id, bundle, stdin, stdout, stderr, terminal } = task.request;
  return {
    id,
    bundle,
    pid: task.pid,
    status: STATUS[task.status],
    stdin,
    stdout,
    stderr,
    terminal,
    exitStatus: exit?.status ?? 0,
    exitedAt: exit === undefined ? null : timestamp(exit.at),
  };
}
