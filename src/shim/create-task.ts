import type { Config } from '../core/config.ts';
import { VmError } from '../core/errors.ts';
import { parseVmSpec } from '../core/parse-spec.ts';
import { detectCgroupLayout } from '../host/cgroup-layout.ts';
import { planCgroup } from '../host/cgroup-plan.ts';
import { loadConfig } from '../vm/load-config.ts';
import { taskMetrics } from './task-metrics.ts';
import { createVmTask } from './create-vm-task.ts';
import { type OciBundle, parseOciBundle, readOciBundle } from './oci-bundle.ts';
import type { PodIdentity } from './pod-identity.ts';
import { Sandbox } from './sandbox.ts';
import { resolvConfText, sandboxSpec } from './sandbox-spec.ts';
import { SandboxTask } from './sandbox-task.ts';
import type { Task } from './task.ts';
import type { CreateTaskDeps, SandboxRequest, TaskRequest } from './task-request.ts';
import type { VmTask } from './vm-task.ts';

export type CreateTask = (request: TaskRequest, signal: AbortSignal) => Promise<Task>;
export type CreateSandbox = (request: SandboxRequest) => Sandbox;

/** What one shim makes: one shim serves one pod, so what its tasks share is known here. */
export interface PodMaker {
  /** Makes the task that a Create asks for: the sandbox that a pod begins with, or the VM of the pod or of a bare container. */
  readonly task: CreateTask;
  /** Makes the sandbox that a CreateSandbox asks for. */
  readonly sandbox: CreateSandbox;
}

export function podMaker(deps: CreateTaskDeps): PodMaker {
  const { host, env } = deps;
  let sandbox: Sandbox | undefined;
  let vm: VmTask | undefined;
  /** The VM that is being created: it counts before it is there. */
  let creating: string | undefined;

  const takeSandbox = (made: Sandbox): Sandbox => {
    if (sandbox !== undefined && sandbox.state.t !== 'stopped') {
      throw new VmError(
        'AlreadyExists',
        `sandbox "${made.id}" cannot be created: this shim has the sandbox "${sandbox.id}", which already exists; each pod gets a shim of its own`,
      );
    }
    return (sandbox = made);
  };

  return {
    sandbox: (request) => {
      const bundle = sandboxBundle(deps, request);
      // The runtime's options reach `start` only; what CreateSandbox calls options is the pod.
      const config = loadConfig(host, env, deps.startOptions);
      const netns = request.netns ?? bundle.netns;
      return takeSandbox(newSandbox(deps, { ...request, netns }, bundle, config));
    },
    task: async (request, signal) => {
      const bundle = readOciBundle(host, request.bundle);
      const config = loadConfig(host, env, request.options);
      if (bundle.kind === 'sandbox') {
        const parts = { id: request.id, bundle: request.bundle, netns: bundle.netns, pod: undefined };
        return new SandboxTask(request, takeSandbox(newSandbox(deps, parts, bundle, config)));
      }
      sandbox?.expectReady(request.id);
      const taken = creating ?? (vm?.status === 'stopped' ? undefined : vm?.id);
      if (taken !== undefined) {
        throw new VmError(
          'FailedPrecondition',
          `the pod has a VM already (container "${taken}"); a pod of this runtime has one container, so give "${request.id}" a pod of its own or another runtimeClassName`,
        );
      }
      creating = request.id;
      try {
        vm = await createVmTask(deps, { request, bundle, config }, sandbox, signal);
        return vm;
      } finally {
        creating = undefined;
      }
    },
  };
}

/**
 * containerd writes a config.json for a sandbox only if its client gave a spec; CRI describes the pod instead, and leaves
 * its resolv.conf to us.
 */
function sandboxBundle({ host }: CreateTaskDeps, { id, bundle, netns, pod }: SandboxRequest): OciBundle {
  if (host.inspect(`${bundle}/config.json`) !== undefined) return readOciBundle(host, bundle);
  if (pod === undefined) return parseOciBundle({}, bundle);
  const dns = resolvConfText(pod.dns);
  const resolvConf = dns === undefined ? undefined : `${bundle}/resolv.conf`;
  if (dns !== undefined) host.writeText(`${bundle}/resolv.conf`, dns);
  return parseOciBundle(sandboxSpec(id, pod, { netns, resolvConf }), bundle);
}

interface SandboxIdentity {
  readonly id: string;
  readonly bundle: string;
  readonly netns: string | undefined;
  readonly pod: PodIdentity | undefined;
}

/** Wrong annotations are told when the pod is made, not only when its container is. */
function newSandbox(
  { host, namespace }: CreateTaskDeps,
  identity: SandboxIdentity,
  { spec, resolvConf }: OciBundle,
  config: Config,
): Sandbox {
  const { cgroupsPath } = parseVmSpec({ id: identity.id, namespace, spec, config });
  const cgroup = planCgroup(detectCgroupLayout(host), cgroupsPath, identity.id);
  return new Sandbox({ ...identity, resolvConf, metrics: () => taskMetrics(host, cgroup) });
}
