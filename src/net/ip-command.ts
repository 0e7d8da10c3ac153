import { VmError } from '../core/errors.ts';
import type { ExecResult, Host } from '../host/host.ts';

/**
 * A network namespace: a path such as /run/netns/NAME or /proc/PID/ns/net, undefined for the one we are in (the node's).
 */
export type Netns = string | undefined;

export interface NetnsExecOptions {
  readonly input?: string;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs a command in a network namespace. `ip -n` and `ip netns exec` know names in /run/netns only and the latter
 * mounts a new /sys, so this is nsenter(1).
 */
export function execInNetns(
  host: Host,
  netns: Netns,
  file: string,
  args: readonly string[],
  { input, signal }: NetnsExecOptions = {},
): Promise<ExecResult> {
  const options = { ...(input !== undefined && { input }), ...(signal !== undefined && { signal }) };
  return netns === undefined
    ? host.exec(file, args, options)
    : host.exec('nsenter', [`--net=${netns}`, '--', file, ...args], options);
}

/**
 * Runs commands of ip(8), tc(8) or bridge(8) by one process, in order, up to the first that fails; what ran before it stays.
 * @throws VmError with the command that failed and what the kernel said of it.
 */
export async function runBatch(
  host: Host,
  program: 'ip' | 'tc' | 'bridge',
  netns: Netns,
  commands: readonly (readonly string[])[],
  signal?: AbortSignal,
): Promise<void> {
  if (commands.length === 0) return;
  const lines = commands.map((words) => words.map(plainWord).join(' '));
  try {
    await execInNetns(host, netns, program, ['-batch', '-'], { input: `${lines.join('\n')}\n`, signal });
  } catch (error) {
    throw nameCommand(error, program, lines);
  }
}

/** The batch language has quotes, comments and line continuation; nothing we say needs them. */
function plainWord(word: string): string {
  if (/^[A-Za-z0-9_.:/%@+-]+$/.test(word)) return word;
  throw new VmError(
    'InvalidArgument',
    `${JSON.stringify(word)} cannot be part of an ip, tc or bridge command; use a link name or address of letters, digits and _.:-`,
  );
}

function nameCommand(error: unknown, program: string, lines: readonly string[]): unknown {
  if (!VmError.is(error, 'Internal')) return error;
  const [, said = '', line] =
    /ended with status \d+: (.*?);? *Command failed -:(\d+)/s.exec(error.message) ?? [];
  const command = lines[Number(line) - 1];
  if (command === undefined) return error;
  return new VmError('Internal', `${program} ${command}: ${said}`, { cause: error });
}
