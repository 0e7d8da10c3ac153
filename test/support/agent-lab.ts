import { parseConfig } from '../../src/core/config.ts';
import { AGENT_TIMES, type Agent, startAgent } from '../../src/agent/agent.ts';
import { loadCluster } from '../../src/agent/kube/cluster.ts';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { KubeServer } from './kube-server.ts';
import { type RecordingLogger, recordingLogger } from './recording-logger.ts';
import { StandInShim, type StandInOptions } from './stand-in-shim.ts';
import { tempDir, type Teardown } from './temp-dir.ts';

export const KEY = '0123456789abcdef0123';

/** An agent on a node of its own: an API server and shims that stand in at the wire. */
export interface AgentLab {
  readonly kube: KubeServer;
  readonly log: RecordingLogger;
  readonly stateDir: string;
  /** Starts an agent, which is ended with the test at the latest. */
  readonly start: () => Promise<Agent>;
  /** A VM of this node whose shim answers. */
  readonly vm: (options?: Partial<StandInOptions>) => Promise<StandInShim>;
  readonly page: (path: string) => Promise<{ status: number; body: string }>;
}

export async function agentLab(t: Teardown): Promise<AgentLab> {
  const stateDir = tempDir(t);
  const kube = await KubeServer.start(t);
  const log = recordingLogger();
  let latest: Agent | undefined;
  const start = async (): Promise<Agent> => {
    const agent = await startAgent({
      host: new LinuxHost(),
      config: { ...parseConfig('', 'config.toml'), stateDir, kubeletDir: `${stateDir}/none` },
      cluster: loadCluster({ kubeconfig: kube.kubeconfig }, {}),
      nodeName: 'node-1',
      listen: { host: '127.0.0.1', port: 0 },
      log,
      times: { ...AGENT_TIMES, backOff: { first: 5, most: 50 } },
      garbage: undefined,
      version: '0',
    });
    latest = agent;
    t.teardown(() => agent[Symbol.asyncDispose]());
    return agent;
  };
  return {
    kube,
    log,
    stateDir,
    start,
    vm: async (options = {}) => {
      const shim = new StandInShim(t, stateDir, { key: KEY, podUid: 'uid-a', ...options });
      await shim.start();
      return shim;
    },
    page: async (path) => {
      const answer = await fetch(`http://127.0.0.1:${latest?.address.port ?? 0}${path}`);
      return { status: answer.status, body: await answer.text() };
    },
  };
}

/** The status that the agent has written into a pod. */
export function powerStatus(kube: KubeServer, name = 'a'): { id?: string; phase?: string; message?: string } {
  const text = kube.pods.get(`default/${name}`)?.metadata.annotations['vmshim.io/power-status'];
  return text === undefined ? {} : (JSON.parse(text) as object);
}

export function poweredOn(kube: KubeServer, name = 'a'): { status?: string; reason?: string } {
  const conditions = kube.pods.get(`default/${name}`)?.status.conditions ?? [];
  return conditions.find(({ type }) => type === 'vmshim.io/PoweredOn') ?? {};
}
