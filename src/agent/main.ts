import { dirname, join } from 'node:path';
import { nodeConfig } from '../control/node-config.ts';
import { describeError, VmError } from '../core/errors.ts';
import { textLogger } from '../core/logger.ts';
import { LinuxHost } from '../host/linux-host.ts';
import { VERSION } from './version.ts';
import { type Agent, AGENT_TIMES, startAgent } from './agent.ts';
import { loadCluster } from './kube/cluster.ts';
import { type AgentOptions, HELP, parseOptions } from './options.ts';

/** An agent that does not end by itself within this time is ended; it holds nothing that would be lost. */
const END_MS = 5_000;

async function main(argv: readonly string[]): Promise<void> {
  const command = parseOptions(argv, process.env);
  if (command.t === 'help') process.stdout.write(HELP);
  else if (command.t === 'version') process.stdout.write(`vm-node-agent ${VERSION}\n`);
  else await run(command.options);
}

async function run(options: AgentOptions): Promise<void> {
  const { nodeName, listen, gcGraceMs, containerd, kubeconfig, mountNamespace, debug } = options;
  const log = textLogger((line) => void process.stderr.write(line), { debug });
  const host = new LinuxHost();
  const config = nodeConfig(host, process.env);
  const ended = Promise.withResolvers<string>();
  process.once('SIGTERM', ended.resolve);
  process.once('SIGINT', ended.resolve);
  const agent: Agent = await startAgent({
    host,
    config,
    cluster: loadCluster({ kubeconfig }, process.env),
    nodeName,
    listen,
    log,
    times: AGENT_TIMES,
    garbage:
      gcGraceMs === undefined
        ? undefined
        : { graceMs: gcGraceMs, vmctl: vmctl(mountNamespace), env: forwarded(), containerd },
    version: VERSION,
  });
  log.info('the agent runs', { node: nodeName, http: `${agent.address.host}:${agent.address.port}` });
  const signal = await ended.promise;
  log.info('the agent ends; VMs go on', { signal });
  setTimeout(() => process.exit(0), END_MS).unref();
  await agent[Symbol.asyncDispose]();
}

/**
 * It is installed beside us, in a container by the same paths as on the node. Undoing what a VM had takes more of the node than the
 * agent itself does: the CNI plugins that free its addresses, Open vSwitch, mounts, and a keeper that outlives us.
 */
function vmctl(mountNamespace: string | undefined): string[] {
  const enter = mountNamespace === undefined ? [] : ['nsenter', `--mount=${mountNamespace}`, '--'];
  return [...enter, process.execPath, join(dirname(process.argv[1] ?? ''), 'vmctl.cjs')];
}

function forwarded(): Record<string, string> {
  const config = process.env['VMSHIM_CONFIG'];
  return config === undefined ? {} : { VMSHIM_CONFIG: config };
}

main(process.argv.slice(2)).then(
  () => {
    process.exitCode = 0;
  },
  (error: unknown) => {
    process.stderr.write(`vm-node-agent: ${VmError.is(error) ? error.message : describeError(error)}\n`);
    process.exitCode = 1;
  },
);
