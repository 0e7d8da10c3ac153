import { containerd, google } from '#wire';
import { TtrpcClient } from '../../src/ttrpc/client.ts';
import type { CallOptions } from '../../src/ttrpc/client-call.ts';

const wire = containerd.task;
const { Empty } = google.protobuf;

interface Message<T, Fields> {
  encode(fields: Fields): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

/** Every method of the task API on one connection, as containerd holds one per container. */
export class TaskClient implements AsyncDisposable {
  readonly ttrpc: TtrpcClient;
  readonly version: 2 | 3;

  readonly create = this.#method('Create', wire.CreateTaskRequest, wire.CreateTaskResponse);
  readonly start = this.#method('Start', wire.StartRequest, wire.StartResponse);
  readonly delete = this.#method('Delete', wire.DeleteRequest, wire.DeleteResponse);
  readonly state = this.#method('State', wire.StateRequest, wire.StateResponse);
  readonly wait = this.#method('Wait', wire.WaitRequest, wire.WaitResponse);
  readonly kill = this.#method('Kill', wire.KillRequest, Empty);
  readonly pids = this.#method('Pids', wire.PidsRequest, wire.PidsResponse);
  readonly pause = this.#method('Pause', wire.PauseRequest, Empty);
  readonly resume = this.#method('Resume', wire.ResumeRequest, Empty);
  readonly closeIO = this.#method('CloseIO', wire.CloseIORequest, Empty);
  readonly resizePty = this.#method('ResizePty', wire.ResizePtyRequest, Empty);
  readonly update = this.#method('Update', wire.UpdateTaskRequest, Empty);
  readonly stats = this.#method('Stats', wire.StatsRequest, wire.StatsResponse);
  readonly connect = this.#method('Connect', wire.ConnectRequest, wire.ConnectResponse);
  readonly exec = this.#method('Exec', wire.ExecProcessRequest, Empty);
  readonly checkpoint = this.#method('Checkpoint', wire.CheckpointTaskRequest, Empty);
  readonly shutdown = this.#method('Shutdown', wire.ShutdownRequest, Empty);

  static async connect(socketPath: string, version: 2 | 3 = 2): Promise<TaskClient> {
    return new TaskClient(await TtrpcClient.connect(socketPath), version);
  }

  constructor(ttrpc: TtrpcClient, version: 2 | 3) {
    this.ttrpc = ttrpc;
    this.version = version;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.ttrpc[Symbol.asyncDispose]();
  }

  #method<Request, Fields, Reply, ReplyFields>(
    name: string,
    request: Message<Request, Fields>,
    reply: Message<Reply, ReplyFields>,
  ): (fields: Fields, options?: CallOptions) => Promise<Reply> {
    return async (fields, options) =>
      reply.decode(
        await this.ttrpc.call(
          `containerd.task.v${this.version}.Task`,
          name,
          request.encode(fields).finish(),
          options,
        ),
      );
  }
}
