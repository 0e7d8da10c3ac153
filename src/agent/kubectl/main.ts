import { parseCommandLine, UsageError } from '../../control/command.ts';
import { VmError } from '../../core/errors.ts';
import { runInTerminal } from '../../host/run-in-terminal.ts';
import { loadCluster } from '../kube/cluster.ts';
import { KubeApi } from '../kube/kube-api.ts';
import { isAction, isGrace } from '../power/power-request.ts';
import { VERSION } from '../version.ts';
import { hasStdin, isVm, PodClient } from './pod-client.ts';
import { askPower, type PowerVerb } from './power-verb.ts';
import { shownText } from './shown-text.ts';
import { vmDetails, vmTable } from './vm-lines.ts';

const HELP = `kubectl vm looks after pods that are virtual machines, through the API server alone.

Usage: kubectl vm COMMAND [POD] [-n NAMESPACE] [--context NAME] [--kubeconfig FILE]

  list [-A] [--runtime-class NAME]   the VMs of a namespace, or of all
  status POD                         what the API server knows of one
  console POD                        its serial console (kubectl attach -it); Ctrl-P Ctrl-Q leaves
  stop POD [--grace SECONDS] [--force]
  start | reset | pause | resume | nmi POD
  reboot POD [--grace SECONDS]

The pod stays while its VM is off. Power commands wait until they are done (--no-wait does not, --timeout SECONDS gives
up), and need a vm-node-agent on the pod's node. Exit status: 0 done, 1 failed, 2 wrong usage, 3 no such pod, 4 no answer
in time.
`;

const EXIT = { ok: 0, failed: 1, usage: 2, notFound: 3, noAnswer: 4 } as const;
const TIMEOUT_S = 600;

const OPTIONS = {
  namespace: { type: 'string', short: 'n' },
  'all-namespaces': { type: 'boolean', short: 'A' },
  context: { type: 'string' },
  kubeconfig: { type: 'string' },
  'runtime-class': { type: 'string' },
  grace: { type: 'string' },
  force: { type: 'boolean' },
  'no-wait': { type: 'boolean' },
  timeout: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean' },
} as const;

async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseCommandLine(argv, OPTIONS);
  const [command = 'help', ...names] = positionals;
  if (values.version === true) {
    process.stdout.write(`kubectl-vm ${VERSION}\n`);
    return EXIT.ok;
  }
  if (command === 'help' || values.help === true) {
    process.stdout.write(HELP);
    return EXIT.ok;
  }
  const interrupted = new AbortController();
  process.once('SIGINT', () => interrupted.abort());
  const { signal } = interrupted;
  const cluster = loadCluster(values, process.env);
  const client = new PodClient(new KubeApi(cluster, `kubectl-vm/${VERSION}`));
  const namespace = values.namespace ?? cluster.namespace;
  if (command === 'list') {
    if (names.length > 0) throw new UsageError('list takes no pod; "kubectl vm status POD" shows one');
    const all = values['all-namespaces'] === true;
    const pods = await client.list(all ? undefined : namespace, signal);
    const runtimeClass = values['runtime-class'] ?? 'vm';
    process.stdout.write(
      vmTable(
        pods.filter((pod) => isVm(pod, runtimeClass)),
        all,
      ),
    );
    return EXIT.ok;
  }
  if (command === 'vnc')
    throw new UsageError(
      'a VM’s screen does not go through the API server; on the node "vmctl vnc POD" tells where it is, also for ssh -L, and "kubectl vm console POD" is the serial console',
    );
  if (command !== 'status' && command !== 'console' && !isAction(command))
    throw new UsageError(`kubectl vm has no command "${command}"; "kubectl vm help" lists them`);
  const [name, ...more] = names;
  if (name === undefined || more.length > 0)
    throw new UsageError('give exactly one pod; "kubectl vm list" shows the ones there are');
  const pod = await client.get(namespace, name, signal);
  if (command === 'console') {
    if (!hasStdin(pod))
      process.stderr.write(
        `kubectl vm: pod/${name} has no container with "stdin: true", so its console can be read and not typed at\n`,
      );
    return await attach(name, namespace, values);
  }
  if (command === 'status') {
    process.stdout.write(vmDetails(pod));
    return EXIT.ok;
  }
  const verb: PowerVerb = {
    action: command,
    graceSeconds: parseSeconds(values.grace, '--grace'),
    force: values.force ?? false,
    wait: values['no-wait'] !== true,
  };
  if (verb.force && command !== 'stop') throw new UsageError('only "stop" can be forced');
  const timeout = AbortSignal.timeout((parseSeconds(values.timeout, '--timeout') ?? TIMEOUT_S) * 1000);
  const say = (sentence: string): void => void process.stderr.write(`${shownText(sentence)}\n`);
  const answer = await askPower(client, pod, verb, say, AbortSignal.any([signal, timeout]));
  if (answer === undefined) return EXIT.ok;
  const text = `pod/${name} ${command}: ${answer.phase}${answer.message === '' ? '' : `: ${shownText(answer.message)}`}\n`;
  (answer.phase === 'done' ? process.stdout : process.stderr).write(text);
  return answer.phase === 'done' ? EXIT.ok : EXIT.failed;
}

function attach(
  name: string,
  namespace: string,
  { context, kubeconfig }: { context?: string | undefined; kubeconfig?: string | undefined },
): Promise<number> {
  return runInTerminal('kubectl', [
    ...['attach', '--stdin', '--tty', `--namespace=${namespace}`],
    ...(context === undefined ? [] : [`--context=${context}`]),
    ...(kubeconfig === undefined ? [] : [`--kubeconfig=${kubeconfig}`]),
    ...['--', name],
  ]);
}

function parseSeconds(text: string | undefined, option: string): number | undefined {
  if (text === undefined) return undefined;
  const seconds = Number(text.replace(/s$/, ''));
  if (!isGrace(seconds)) throw new UsageError(`${option} is "${text}"; give seconds, from 1 to 86400`);
  return seconds;
}

function exitCode(error: unknown): number {
  if (error instanceof UsageError) return EXIT.usage;
  if (VmError.is(error, 'NotFound')) return EXIT.notFound;
  if (VmError.is(error, 'DeadlineExceeded')) return EXIT.noAnswer;
  return EXIT.failed;
}

process.stdout.on('error', () => process.exit(EXIT.ok));
main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    const { kind, message } = VmError.from(error);
    const text =
      kind === 'DeadlineExceeded'
        ? 'no answer in time; the request stands, see "kubectl vm status"'
        : message;
    process.stderr.write(`kubectl vm: ${text}\n`);
    process.exitCode = exitCode(error);
  },
);
