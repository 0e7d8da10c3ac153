import { containerd } from '#wire-sandbox';
import type { UnaryMethod } from '../ttrpc/method.ts';
import { VERSION } from '../vm/version.ts';
import { parsePod } from './parse-pod.ts';
import { describeSandbox, readiness, SandboxCalls, type SandboxCallsDeps } from './sandbox-calls.ts';
import type { Sandbox } from './sandbox.ts';
import { timestamp } from './timestamp.ts';
import { unary } from './unary-method.ts';

const wire = containerd.runtime.sandbox.v1;

export type SandboxServiceDeps = SandboxCallsDeps;

/** The methods of the sandbox API: decode, call, encode. A bundle of its own, see sandbox-service.ts. */
export function sandboxMethods(deps: SandboxServiceDeps) {
  const calls = new SandboxCalls(deps);
  return {
    CreateSandbox: unary(wire.CreateSandboxRequest, wire.CreateSandboxResponse, (request) => {
      const { sandboxId: id, bundlePath: bundle, netnsPath, options } = request;
      const pod = parsePod(any(options));
      calls.create({ id, bundle, netns: netnsPath === '' ? undefined : netnsPath, pod });
      return {};
    }),
    StartSandbox: unary(wire.StartSandboxRequest, wire.StartSandboxResponse, ({ sandboxId }) => {
      const { pid, state } = calls.start(sandboxId);
      return { pid, createdAt: timestamp(state.createdAt) };
    }),
    Platform: unary(wire.PlatformRequest, wire.PlatformResponse, ({ sandboxId }) => {
      calls.find(sandboxId);
      return { platform: { os: 'linux', architecture: 'amd64' } };
    }),
    StopSandbox: unary(
      wire.StopSandboxRequest,
      wire.StopSandboxResponse,
      async ({ sandboxId, timeoutSecs }, call) => {
        await calls.stop(sandboxId, timeoutSecs, call.signal);
        return {};
      },
    ),
    WaitSandbox: unary(wire.WaitSandboxRequest, wire.WaitSandboxResponse, async ({ sandboxId }) => {
      const { status, at } = await calls.wait(sandboxId);
      return { exitStatus: status, exitedAt: timestamp(at) };
    }),
    SandboxStatus: unary(wire.SandboxStatusRequest, wire.SandboxStatusResponse, ({ sandboxId, verbose }) =>
      statusOf(calls.find(sandboxId), verbose),
    ),
    PingSandbox: unary(wire.PingRequest, wire.PingResponse, ({ sandboxId }) => {
      calls.find(sandboxId);
      return {};
    }),
    ShutdownSandbox: unary(
      wire.ShutdownSandboxRequest,
      wire.ShutdownSandboxResponse,
      async ({ sandboxId }) => {
        await calls.shutdown(sandboxId);
        return {};
      },
    ),
    SandboxMetrics: unary(
      wire.SandboxMetricsRequest,
      wire.SandboxMetricsResponse,
      async ({ sandboxId: id }) => ({
        metrics: { timestamp: timestamp(Date.now()), id, data: await calls.find(id).metrics() },
      }),
    ),
  } satisfies Record<string, UnaryMethod>;
}

function statusOf(
  sandbox: Sandbox,
  verbose: boolean,
): containerd.runtime.sandbox.v1.SandboxStatusResponse.$Properties {
  const { id, pid, state } = sandbox;
  return {
    sandboxId: id,
    pid,
    state: readiness(state),
    info: verbose ? describeSandbox(sandbox, VERSION) : {},
    createdAt: timestamp(state.createdAt),
    exitedAt: state.t === 'stopped' ? timestamp(state.exit.at) : null,
  };
}

function any(
  message: { typeUrl?: string | null; value?: Uint8Array | null } | null | undefined,
): { typeUrl: string; value: Uint8Array } | undefined {
  if (message === null || message === undefined) return undefined;
  return { typeUrl: message.typeUrl ?? '', value: message.value ?? new Uint8Array() };
}
