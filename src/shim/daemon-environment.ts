/** What `start` tells the daemon beside its command line. */
export interface DaemonFacts {
  readonly socketPath: string;
  readonly ttrpcAddress: string | undefined;
  /** Milliseconds since the epoch when containerd executed `start`. */
  readonly startedAt: number;
}

/** Variables that change how Node starts: they cost time or print warnings, and are nobody's business here. */
const DROPPED = new Set(['NODE_OPTIONS', 'NODE_EXTRA_CA_CERTS', 'NODE_PATH', 'NODE_DEBUG']);

/** The daemon's environment: containerd's own, as loggers and hooks expect it, with our facts. */
export function daemonEnvironment(env: NodeJS.ProcessEnv, facts: DaemonFacts): Record<string, string> {
  const kept: Record<string, string> = { NODE_NO_WARNINGS: '1' };
  for (const [key, value] of Object.entries(env)) {
    if (value !== undefined && !DROPPED.has(key)) kept[key] = value;
  }
  if (facts.ttrpcAddress !== undefined && facts.ttrpcAddress !== '')
    kept['TTRPC_ADDRESS'] = facts.ttrpcAddress;
  kept['VMSHIM_SOCKET'] = facts.socketPath;
  kept['VMSHIM_STARTED_AT'] = String(facts.startedAt);
  return kept;
}
