import { containerd, runtime } from '#wire-sandbox';
import type { CallOptions } from '../../src/ttrpc/client-call.ts';
import type { TtrpcClient } from '../../src/ttrpc/client.ts';
import type { RunningShim, ShimClient, StartOptions } from './shim-client.ts';

const wire = containerd.runtime.sandbox.v1;

interface Message<T, Fields> {
  encode(fields: Fields): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

/** Every method of the sandbox API on a connection that calls of the task API may share, as containerd's does. */
export class SandboxClient {
  readonly create = this.#method('CreateSandbox', wire.CreateSandboxRequest, wire.CreateSandboxResponse);
  readonly start = this.#method('StartSandbox', wire.StartSandboxRequest, wire.StartSandboxResponse);
  readonly platform = this.#method('Platform', wire.PlatformRequest, wire.PlatformResponse);
  readonly stop = this.#method('StopSandbox', wire.StopSandboxRequest, wire.StopSandboxResponse);
  readonly wait = this.#method('WaitSandbox', wire.WaitSandboxRequest, wire.WaitSandboxResponse);
  readonly status = this.#method('SandboxStatus', wire.SandboxStatusRequest, wire.SandboxStatusResponse);
  readonly ping = this.#method('PingSandbox', wire.PingRequest, wire.PingResponse);
  readonly shutdown = this.#method(
    'ShutdownSandbox',
    wire.ShutdownSandboxRequest,
    wire.ShutdownSandboxResponse,
  );
  readonly metrics = this.#method('SandboxMetrics', wire.SandboxMetricsRequest, wire.SandboxMetricsResponse);
  readonly #ttrpc: TtrpcClient;

  constructor(ttrpc: TtrpcClient) {
    this.#ttrpc = ttrpc;
  }

  #method<Request, Fields, Reply, ReplyFields>(
    name: string,
    request: Message<Request, Fields>,
    reply: Message<Reply, ReplyFields>,
  ): (fields: Fields, options?: CallOptions) => Promise<Reply> {
    return async (fields, options) => {
      const payload = request.encode(fields).finish();
      return reply.decode(
        await this.#ttrpc.call('containerd.runtime.sandbox.v1.Sandbox', name, payload, options),
      );
    };
  }
}

/** A shim that was started for a sandbox's bundle, which has no config.json. */
export interface SandboxShim extends RunningShim {
  readonly sandbox: SandboxClient;
}

export async function sandboxShim(
  shims: ShimClient,
  id: string,
  options: StartOptions = {},
): Promise<SandboxShim> {
  const shim = await shims.shim(id, { version: 3, ...options, spec: false });
  return { ...shim, sandbox: new SandboxClient(shim.task.ttrpc) };
}

/** `CreateSandboxRequest.options` as CRI sends them. */
export function podOptions(pod: runtime.v1.PodSandboxConfig.$Properties): {
  typeUrl: string;
  value: Uint8Array;
} {
  return {
    typeUrl: 'runtime.v1.PodSandboxConfig',
    value: runtime.v1.PodSandboxConfig.encode(pod).finish(),
  };
}
