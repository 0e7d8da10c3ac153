import type { Config } from '../core/config.ts';
import { describeError, VmError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import type { Host } from '../host/host.ts';
import { readNumaRows } from '../control/numa-rows.ts';
import { collectOrphans } from './garbage/collect-orphans.ts';
import { GarbageSchedule, type Outcome } from './garbage/garbage-schedule.ts';
import { HttpServer, type ListenAddress, type Page, plain } from './http-server.ts';
import type { Cluster } from './kube/cluster.ts';
import { KubeApi } from './kube/kube-api.ts';
import { NodePods } from './kube/node-pods.ts';
import { type MirrorTimes, PodMirror } from './kube/pod-mirror.ts';
import { agentMetrics } from './metrics/agent-metrics.ts';
import { Counter } from './metrics/counters.ts';
import { guestMetrics } from './metrics/guest-metrics.ts';
import { numaMetrics } from './metrics/numa-metrics.ts';
import { CONTENT_TYPE, type Family, renderMetrics } from './metrics/text-format.ts';
import { readVmFacts, type VmFacts } from './metrics/vm-facts.ts';
import { vmMetrics } from './metrics/vm-metrics.ts';
import { PodWorkers } from './pod-workers.ts';
import { VmMirror } from './vms/vm-mirror.ts';

export interface AgentParts {
  readonly host: Host;
  readonly config: Pick<Config, 'stateDir' | 'kubeletDir' | 'numa'>;
  readonly cluster: Cluster;
  readonly nodeName: string;
  readonly listen: ListenAddress;
  readonly log: Logger;
  readonly times: AgentTimes;
  /** Undefined when no garbage is collected. */
  readonly garbage:
    | {
        readonly graceMs: number;
        readonly vmctl: readonly string[];
        readonly env: Readonly<Record<string, string>>;
        readonly containerd: string | undefined;
      }
    | undefined;
  readonly version: string;
}

export interface AgentTimes extends MirrorTimes {
  /** Milliseconds until a collection of garbage that could not be done is tried again. */
  readonly garbageRetryMs: number;
}

/** In milliseconds but `serverSeconds`; the watch's are client-go's. */
export const AGENT_TIMES: AgentTimes = {
  watch: { serverSeconds: 480, idleMs: 180_000 },
  backOff: { first: 1_000, most: 60_000 },
  garbageRetryMs: 10 * 60_000,
};

/** A running agent. Disposing ends it and leaves every VM as it is. */
export interface Agent extends AsyncDisposable {
  /** Where it serves HTTP. */
  readonly address: ListenAddress;
}

/**
 * Starts the agent: the node's pods on one side, the node's VMs on the other, a worker for each pair. It needs no API server
 * to start. @throws VmError when its address cannot be had.
 */
export async function startAgent(parts: AgentParts): Promise<Agent> {
  const { host, config, log, times } = parts;
  await using stack = new AsyncDisposableStack();
  const ending = new AbortController();
  const { signal } = ending;
  const api = new KubeApi(parts.cluster, `vm-node-agent/${parts.version}`);
  const nodePods = new NodePods(api, parts.nodeName);
  const pods = new PodMirror(nodePods, times, log);
  const vms = stack.use(new VmMirror(host, config.stateDir, log));
  const counters = {
    requests: new Counter('vmshim_agent_power_requests_total', 'Power requests handed to VMs.'),
    patches: new Counter('vmshim_agent_patches_total', 'Patches of pods.'),
    exits: new Counter('vmshim_agent_vm_exits_total', 'VMs that were seen to end, by the reason.'),
    collections: new Counter('vmshim_agent_gc_runs_total', 'Collections of garbage.'),
    collected: new Counter(
      'vmshim_agent_gc_removed_bytes_total',
      'Bytes that garbage collection has removed.',
    ),
  };
  vms.onChange((before, view) => {
    const reason = view?.vm.exit?.reason.kind;
    if (before !== undefined && before.vm.exit === undefined && reason !== undefined)
      counters.exits.add({ reason });
  });
  stack.use(new PodWorkers({ api, pods, vms, backOff: times.backOff, log, ...counters, signal }));
  const schedule = stack.adopt(makeSchedule(), (it) => it?.[Symbol.asyncDispose]());
  pods.onSync(() => schedule?.begin());
  pods.onChange((_uid, pod) => {
    if (pod === undefined) schedule?.podGone();
  });
  const server = stack.use(
    await HttpServer.listen(parts.listen, {
      '/metrics': async () => ({ status: 200, type: CONTENT_TYPE, body: await metrics() }),
      '/healthz': () => plain(200, 'ok\n'),
      '/readyz': () => readiness(pods),
    }),
  );
  vms.start();
  const mirroring = pods.run(signal);
  stack.defer(async () => {
    ending.abort(new VmError('Canceled', 'the agent ends'));
    await mirroring;
  });
  const owned = stack.move();
  return { address: server.address, [Symbol.asyncDispose]: () => owned.disposeAsync() };

  async function metrics(): Promise<string> {
    const facts = await readVmFacts(host, vms, pods, signal);
    return renderMetrics([
      ...vmMetrics(facts),
      ...guestMetrics(facts),
      ...numa(facts),
      ...agentMetrics(parts.version, pods),
      ...Object.values(counters).map((counter) => counter.family()),
    ]);
  }

  function numa(facts: readonly VmFacts[]): Family[] {
    try {
      const { rows, vms } = readNumaRows(host, config, (sentence) => log.warn(sentence));
      return numaMetrics(rows, vms, facts);
    } catch (error) {
      // One figure that cannot be had is no reason to have none.
      log.warn('the memory nodes cannot be read', { error: describeError(error) });
      return [];
    }
  }

  function makeSchedule(): GarbageSchedule | undefined {
    const { garbage } = parts;
    if (garbage === undefined) return undefined;
    const collect = async (): Promise<Outcome> => {
      try {
        const { count, bytes, more } = await collectOrphans(
          {
            ...garbage,
            host,
            kubeletDir: config.kubeletDir,
            listUids: (limit) => nodePods.listUids(limit),
            vms: () => vms.vms,
          },
          signal,
        );
        if (count > 0) log.info('garbage was removed', { count, bytes });
        counters.collections.add({ result: 'done' });
        counters.collected.add({}, bytes);
        return { t: 'done', more };
      } catch (error) {
        if (!signal.aborted) log.warn('no garbage is collected now', { error: describeError(error) });
        counters.collections.add({ result: 'not done' });
        return { t: 'not done' };
      }
    };
    return new GarbageSchedule({ graceMs: garbage.graceMs, retryMs: times.garbageRetryMs }, collect);
  }
}

/** Not part of health: an agent that was restarted would reach the API server no sooner. */
function readiness(pods: PodMirror): Page {
  if (pods.state.syncedAt === undefined) return plain(503, 'the API server was never reached\n');
  return pods.state.connected ? plain(200, 'ok\n') : plain(503, 'the API server does not answer\n');
}
