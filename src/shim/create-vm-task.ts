import { parseVmSpec } from '../core/parse-spec.ts';
import type { Host } from '../host/host.ts';
import { adoptedVm, createMachine } from '../vm/create-machine.ts';
import type { AdoptedMachine } from '../vm/adopt-machine.ts';
import type { MachineRequest } from '../vm/machine-request.ts';
import { vmNames } from '../vm/names.ts';
import { readMarker } from '../vm/orphan-marker.ts';
import { spawnKeeper } from '../vm/spawn-keeper.ts';
import { ownerOf } from '../vm/survival.ts';
import { taskMetrics } from './task-metrics.ts';
import { ConsoleHub } from './console/console-hub.ts';
import { ConsoleLog } from './console/console-log.ts';
import { ConsoleSpool } from './console/console-spool.ts';
import { parseStdio } from './console/stdio-plan.ts';
import { TaskStdio } from './console/task-stdio.ts';
import { serveControl } from './control-socket.ts';
import { nameMember } from './member-pointer.ts';
import { rootfsOf } from './oci-bundle.ts';
import type { Sandbox } from './sandbox.ts';
import type { CreateTaskDeps, PreparedRequest } from './task-request.ts';
import { writeTerminationMessage } from './termination-message.ts';
import { VmTask } from './vm-task.ts';

/**
 * Everything between a Create request and a task whose VM waits for Start; what fails leaves nothing behind.
 * @param sandbox of the pod; undefined for a bare container.
 */
export async function createVmTask(
  deps: CreateTaskDeps,
  { request, bundle, config }: PreparedRequest,
  sandbox: Sandbox | undefined,
  signal: AbortSignal,
): Promise<VmTask> {
  const { host, log } = deps;
  const { id } = request;
  const timeline = deps.timeline.fork();
  timeline.mark('create-called');
  const plan = parseStdio(request);
  // Undefined for a bare container, and for a pod in the node's own network.
  const netns = sandbox?.netns;
  const podNetwork = netns !== undefined;
  const spec = parseVmSpec({ id, namespace: deps.namespace, spec: bundle.spec, config, podNetwork });

  await using undo = new AsyncDisposableStack();
  if (deps.home !== request.bundle) {
    const { record } = vmNames(config.stateDir, deps.namespace, id);
    undo.use(nameMember(host, deps.home, id, record));
  }
  const wanted: MachineRequest = {
    spec,
    config,
    bundle: request.bundle,
    rootfs: rootfsOf(request.bundle, request.rootfs, bundle),
    netns,
    resolvConf: podResolvConf(host, bundle.resolvConf, sandbox?.resolvConf),
    shimSocket: deps.shimSocket,
    timeline,
  };
  const adopted = await adopt(deps, wanted, signal);
  const vm =
    adopted === undefined ? await createMachine(deps, wanted, signal) : adoptedVm(deps, wanted, adopted);
  const { machine } = vm;
  // A guest that ran before us must not end because its task could not be made.
  let made = false;
  undo.defer(() => (made || adopted === undefined ? vm.release() : adopted.abandon()));
  const report = (sentence: string): void => log.warn(sentence, { id });
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
  const hub = undo.use(
    await ConsoleHub.connect(machine.names.consoleSocket, spool, { signal, until: vm.exited }),
  );
  vm.beforeBoot((next, signal) => hub.reconnect(next.names.consoleSocket, signal));
  const scratchDir = machine.names.runDir;
  const stdio = undo.use(
    await TaskStdio.open(host, hub, plan, { id, namespace: deps.namespace, scratchDir, report, signal }),
  );
  const task = new VmTask({
    request,
    vm,
    hub,
    stdio,
    metrics: () => taskMetrics(host, vm.machine.facts.cgroup, vm.machine.nicCounters()),
    onExit: (exit) => writeTerminationMessage(host, log, bundle.terminationLog, exit),
  });
  undo.use(await serveControl(deps.native, task));
  timeline.mark('created');
  for (const warning of machine.facts.warnings) log.warn(warning, { id });
  made = true;
  task.own(undo.move());
  return task;
}

/** The guest that a dead shim of the pod has left running, if there is one. */
async function adopt(
  deps: CreateTaskDeps,
  wanted: MachineRequest,
  signal: AbortSignal,
): Promise<AdoptedMachine | undefined> {
  const { host } = deps;
  const { spec, config } = wanted;
  if (readMarker(host, config.stateDir, ownerOf(spec)) === undefined) return undefined;
  // A bundle of its own: few shims need it.
  const { adoptMachine } = await import('../vm/adopt-machine.ts');
  return await adoptMachine({ ...deps, spawnKeeper: (record) => spawnKeeper(host, record) }, wanted, signal);
}

/**
 * The container's own mount, else what the sandbox says. containerd 1.7 names a file of its own that it never made where the
 * shim makes the sandbox, and a bind mount of it has become a directory when the container starts again.
 */
function podResolvConf(
  host: Host,
  mounted: string | undefined,
  ofSandbox: string | undefined,
): string | undefined {
  if (mounted === undefined || ofSandbox === undefined) return mounted ?? ofSandbox;
  const kind = host.inspect(mounted)?.kind;
  return kind === undefined || kind === 'directory' ? ofSandbox : mounted;
}
