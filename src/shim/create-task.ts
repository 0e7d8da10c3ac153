import { VmError } from '../core/errors.ts';
import type { AnyMessage } from '../core/protobuf-fields.ts';
import type { Logger } from '../core/logger.ts';
import { parseVmSpec } from '../core/parse-spec.ts';
import type { Host } from '../host/host.ts';
import type { Native } from '../host/native.ts';
import { createMachine } from '../vm/create-machine.ts';
import type { Rootfs, RootfsMount } from '../vm/rootfs-mount.ts';
import type { Timeline } from '../vm/timeline.ts';
import { ConsoleHub } from './console/console-hub.ts';
import { ConsoleLog } from './console/console-log.ts';
import { ConsoleSpool } from './console/console-spool.ts';
import { parseStdio } from './console/stdio-plan.ts';
import { TaskStdio } from './console/task-stdio.ts';
import { serveControl } from './control-socket.ts';
import { loadConfig } from '../vm/load-config.ts';
import { cgroupMetrics } from './cgroup-metrics.ts';
import type { Task } from './task.ts';
import { VmTask } from './vm-task.ts';

/** A CreateTaskRequest, parsed. */
export interface TaskRequest {
  readonly id: string;
  readonly bundle: string;
  readonly rootfs: readonly RootfsMount[];
  readonly terminal: boolean;
  readonly stdin: string;
  readonly stdout: string;
  readonly stderr: string;
  readonly options: AnyMessage;
}

export type CreateTask = (request: TaskRequest, signal: AbortSignal) => Promise<Task>;

export interface CreateTaskDeps {
  readonly host: Host;
  readonly native: Native;
  readonly log: Logger;
  readonly env: NodeJS.ProcessEnv;
  readonly namespace: string;
  /** The socket this shim serves containerd on. */
  readonly shimSocket: string;
  readonly timeline: Timeline;
}

/** Everything between a Create request and a task whose VM waits for Start; what fails leaves nothing behind. */
export function createTask(deps: CreateTaskDeps): CreateTask {
  return async (request, signal) => {
    const { host, log } = deps;
    const timeline = deps.timeline.fork();
    timeline.mark('create-called');
    const plan = parseStdio(request);
    const config = loadConfig(host, deps.env, request.options);
    const ociSpec = readSpec(host, request.bundle);
    const spec = parseVmSpec({ id: request.id, namespace: deps.namespace, spec: ociSpec, config });

    await using undo = new AsyncDisposableStack();
    const machine = await createMachine(
      deps,
      {
        spec,
        config,
        bundle: request.bundle,
        rootfs: rootfsOf(request, ociSpec),
        shimSocket: deps.shimSocket,
        timeline,
      },
      signal,
    );
    undo.defer(() => machine.release());
    const report = (sentence: string): void => log.warn(sentence, { id: request.id });
    const spool = new ConsoleSpool(
      new ConsoleLog(host, machine.consoleLog, {
        bytes: config.console.logBytes,
        files: config.console.logFiles,
        report,
      }),
    );
    undo.use(spool);
    const first = spool.follow(() => {
      timeline.mark('first-console-byte');
      first[Symbol.dispose]();
    });
    const hub = undo.use(await ConsoleHub.connect(machine.names.consoleSocket, spool, { signal }));
    const stdio = undo.use(
      await TaskStdio.open(host, hub, plan, {
        id: request.id,
        namespace: deps.namespace,
        scratchDir: machine.names.runDir,
        report,
        signal,
      }),
    );
    const task = new VmTask({
      request,
      machine,
      hub,
      stdio,
      metrics: () => cgroupMetrics(host, machine.facts.cgroup),
    });
    undo.use(await serveControl(deps.native, task));
    timeline.mark('created');
    for (const warning of machine.facts.warnings) log.warn(warning, { id: request.id });
    task.own(undo.move());
    return task;
  };
}

function readSpec(host: Host, bundle: string): unknown {
  try {
    return JSON.parse(host.readText(`${bundle}/config.json`)) as unknown;
  } catch (cause) {
    throw new VmError('InvalidArgument', `the OCI spec "${bundle}/config.json" is not readable JSON`, {
      cause,
    });
  }
}

/** containerd mounts on the bundle's `rootfs`; without mounts the spec names a directory that is ready (`ctr run --rootfs`). */
function rootfsOf({ bundle, rootfs }: TaskRequest, ociSpec: unknown): Rootfs {
  if (rootfs.length > 0) return { path: `${bundle}/rootfs`, mounts: rootfs };
  const root =
    typeof ociSpec === 'object' && ociSpec !== null && 'root' in ociSpec ? ociSpec.root : undefined;
  const path = typeof root === 'object' && root !== null && 'path' in root ? root.path : undefined;
  if (typeof path !== 'string' || path === '') {
    throw new VmError(
      'InvalidArgument',
      'root.path of the OCI spec is missing; it must name the container’s root file system',
    );
  }
  return { path: path.startsWith('/') ? path : `${bundle}/${path}`, mounts: [] };
}
