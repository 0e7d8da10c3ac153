import type { PodMirror } from '../kube/pod-mirror.ts';
import type { Family } from './text-format.ts';

/** The agent's own health. */
export function agentMetrics(version: string, { state, pods }: PodMirror): Family[] {
  const one = (type: Family['type'], name: string, help: string, value: number | undefined): Family => ({
    name,
    help,
    type,
    samples: value === undefined ? [] : [{ labels: {}, value }],
  });
  const cpu = process.cpuUsage();
  return [
    {
      name: 'vmshim_agent_info',
      help: 'The agent’s version; always 1.',
      type: 'gauge',
      samples: [{ labels: { version }, value: 1 }],
    },
    one('gauge', 'vmshim_agent_api_connected', '1 while the API server answers.', state.connected ? 1 : 0),
    one(
      'gauge',
      'vmshim_agent_api_synced_time_seconds',
      'When all pods were known for the first time, since the epoch.',
      state.syncedAt === undefined ? undefined : state.syncedAt / 1000,
    ),
    one('counter', 'vmshim_agent_api_lists_total', 'Lists of the node’s pods.', state.lists),
    one('counter', 'vmshim_agent_api_watches_total', 'Watches of the node’s pods.', state.watches),
    one('counter', 'vmshim_agent_api_failures_total', 'Lists and watches that failed.', state.failures),
    one('gauge', 'vmshim_agent_pods', 'Pods of this node.', pods.size),
    one('gauge', 'process_resident_memory_bytes', 'Memory of the agent.', process.memoryUsage.rss()),
    one('counter', 'process_cpu_seconds_total', 'CPU time of the agent.', (cpu.user + cpu.system) / 1e6),
  ];
}
