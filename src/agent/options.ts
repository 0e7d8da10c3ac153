import { parseArgs } from 'node:util';
import { VmError } from '../core/errors.ts';
import type { ListenAddress } from './http-server.ts';

export interface AgentOptions {
  readonly nodeName: string;
  readonly kubeconfig: string | undefined;
  readonly listen: ListenAddress;
  /** Milliseconds; undefined when no garbage is collected. */
  readonly gcGraceMs: number | undefined;
  readonly containerd: string | undefined;
  /** Path of the mount namespace in which garbage is collected; undefined for the agent's own. */
  readonly mountNamespace: string | undefined;
  readonly debug: boolean;
}

export type AgentCommand =
  { readonly t: 'run'; readonly options: AgentOptions } | { readonly t: 'help' } | { readonly t: 'version' };

export const HELP = `Usage: vm-node-agent [--node-name NAME] [options]

Carries power requests of this node's pods to their VMs, says in the pods what VMs do, removes the disks of pods that
are gone, and serves metrics. It keeps nothing: VMs go on without it.

Options:
  --node-name NAME    this node as the API server calls it (NODE_NAME)
  --kubeconfig FILE   how to reach the API server; a pod's service account otherwise
  --listen HOST:PORT  where /metrics, /healthz and /readyz are served (127.0.0.1:9464)
  --gc-grace TIME     how long what a pod left is kept, such as 30m, 1h (default) or 7d; "off" keeps it
  --containerd SOCKET containerd's socket (/run/containerd/containerd.sock)
  --mount-namespace FILE
                      collect garbage with the file systems of another mount namespace: for an agent in a container,
                      which lacks the node's CNI plugins and their state, /proc/1/ns/mnt
  --debug             log more
  --version
`;

const UNITS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** @throws VmError InvalidArgument naming the option. */
export function parseOptions(argv: readonly string[], env: NodeJS.ProcessEnv): AgentCommand {
  const { values } = parse(argv);
  if (values.help === true) return { t: 'help' };
  if (values.version === true) return { t: 'version' };
  const nodeName = values['node-name'] ?? env['NODE_NAME'] ?? '';
  if (!/^[a-z0-9][a-z0-9.-]{0,252}$/.test(nodeName)) {
    throw wrong(
      nodeName === ''
        ? '--node-name is missing, and so is NODE_NAME; give the name that "kubectl get nodes" shows'
        : `--node-name is "${nodeName}"; give the name that "kubectl get nodes" shows`,
    );
  }
  return {
    t: 'run',
    options: {
      nodeName,
      kubeconfig: values.kubeconfig,
      listen: parseListen(values.listen ?? '127.0.0.1:9464'),
      gcGraceMs: parseGrace(values['gc-grace'] ?? '1h'),
      containerd: values.containerd ?? env['CONTAINERD_ADDRESS'],
      mountNamespace: parseNamespace(values['mount-namespace']),
      debug: values.debug ?? false,
    },
  };
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        'node-name': { type: 'string' },
        kubeconfig: { type: 'string' },
        listen: { type: 'string' },
        'gc-grace': { type: 'string' },
        containerd: { type: 'string' },
        'mount-namespace': { type: 'string' },
        debug: { type: 'boolean' },
        version: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (cause) {
    // Node's sentences name the option; what follows the first one explains how to quote.
    throw wrong(`${VmError.from(cause).message.split('. ')[0] ?? ''}; "vm-node-agent --help" lists them`);
  }
}

function parseListen(text: string): ListenAddress {
  const [, host = '', port = ''] = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]*):(\d{1,5})$/.exec(text) ?? [];
  if (port === '' || Number(port) > 65_535)
    throw wrong(`--listen is "${text}"; give an address and a port, such as 127.0.0.1:9464 or :9464 for all`);
  return { host: host === '' ? '::' : host.replace(/^\[|\]$/g, ''), port: Number(port) };
}

function parseGrace(text: string): number | undefined {
  if (text === 'off') return undefined;
  const [, amount, unit = ''] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const ms = UNITS[unit];
  if (amount === undefined || ms === undefined)
    throw wrong(`--gc-grace is "${text}"; give a number and s, m, h or d, such as 1h, or off`);
  return Number(amount) * ms;
}

function parseNamespace(path: string | undefined): string | undefined {
  if (path === undefined || path.startsWith('/')) return path;
  throw wrong(`--mount-namespace is "${path}"; give the path of a namespace, such as /proc/1/ns/mnt`);
}

function wrong(sentence: string): VmError {
  return new VmError('InvalidArgument', sentence);
}
