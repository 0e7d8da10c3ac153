import { VmError } from '../core/errors.ts';
import { parseVmSpec } from '../core/parse-spec.ts';
import { detectCgroupLayout } from '../host/cgroup-layout.ts';
import { planCgroup } from '../host/cgroup-plan.ts';
import { loadConfig } from '../vm/load-config.ts';
import { vmNames } from '../vm/names.ts';
import { writeMemberPointer } from '../vm/record-pointer.ts';
import { taskMetrics } from './task-metrics.ts';
import { createVmTask } from './create-vm-task.ts';
import { readOciBundle } from './oci-bundle.ts';
import { SandboxTask } from './sandbox-task.ts';
import type { Task } from './task.ts';
import type { CreateTaskDeps, PreparedRequest, TaskRequest } from './task-request.ts';
import type { VmTask } from './vm-task.ts';

export type CreateTask = (request: TaskRequest, signal: AbortSignal) => Promise<Task>;

/**
 * Makes the task that a Create asks for: the sandbox that a pod begins with, or the one VM of the pod or of a bare
 * container. One shim serves one pod, so what the tasks of a pod share is known here.
 */
export function createTask(deps: CreateTaskDeps): CreateTask {
  let netns: string | undefined;
  let sandboxBundle: string | undefined;
  let vm: VmTask | undefined;
  /** The VM that is being created: it counts before it is there. */
  let creating: string | undefined;
  return async (request, signal) => {
    const bundle = readOciBundle(deps.host, request.bundle);
    const prepared = { request, bundle, config: loadConfig(deps.host, deps.env, request.options) };
    if (bundle.kind === 'sandbox') {
      const sandbox = createSandbox(deps, prepared);
      ({ netns } = bundle);
      sandboxBundle = request.bundle;
      return sandbox;
    }
    const taken = creating ?? (vm?.status === 'stopped' ? undefined : vm?.id);
    if (taken !== undefined) {
      throw new VmError(
        'FailedPrecondition',
        `the pod has a VM already (container "${taken}"); a pod of this runtime has one container, so give "${request.id}" a pod of its own or another runtimeClassName`,
      );
    }
    creating = request.id;
    try {
      // Otherwise containerd runs `delete` for each container; its own tells its exit.
      if (sandboxBundle !== undefined && prepared.config.bootstrapVersion === 3) {
        const { record } = vmNames(prepared.config.stateDir, deps.namespace, request.id);
        writeMemberPointer(deps.host, sandboxBundle, record);
      }
      vm = await createVmTask(deps, prepared, netns, signal);
      return vm;
    } finally {
      creating = undefined;
    }
  };
}

/** Wrong annotations are told when the pod is made, not only when its container is. */
function createSandbox(
  { host, namespace }: CreateTaskDeps,
  { request, bundle, config }: PreparedRequest,
): SandboxTask {
  const { cgroupsPath } = parseVmSpec({ id: request.id, namespace, spec: bundle.spec, config });
  const cgroup = planCgroup(detectCgroupLayout(host), cgroupsPath, request.id);
  return new SandboxTask(request, () => taskMetrics(host, cgroup));
}
