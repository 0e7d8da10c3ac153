import { VmError } from '../core/errors.ts';
import { LinuxHost } from '../host/linux-host.ts';
import { loadConfig } from '../vm/load-config.ts';
import { VERSION } from '../vm/version.ts';
import { type Command, type CommandContext, UsageError } from './command.ts';
import { completionCommand } from './completion-command.ts';
import { consoleCommand } from './console-command.ts';
import { commandHelp, overview } from './help.ts';
import { gcCommand } from './gc-command.ts';
import { imageCommand } from './image-command.ts';
import { listCommand } from './list-command.ts';
import { powerCommands } from './power-commands.ts';
import { screenshotCommand } from './screenshot-command.ts';
import { numaCommand } from './numa-command.ts';
import { statsCommand } from './stats-command.ts';
import { statusCommand } from './status-command.ts';
import { vncCommand } from './vnc-command.ts';

const COMMANDS: readonly Command[] = [
  listCommand,
  statusCommand,
  statsCommand,
  consoleCommand,
  vncCommand,
  screenshotCommand,
  ...powerCommands,
  imageCommand,
  gcCommand,
  numaCommand,
  completionCommand,
];

/** Exit statuses that a script can tell apart. */
const EXIT = { ok: 0, failed: 1, usage: 2, notFound: 3, unreachable: 4 } as const;

/** `vmctl`, the operator's command line. */
async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    const [topic] = rest;
    process.stdout.write(topic === undefined ? overview(COMMANDS) : commandHelp(findCommand(topic)));
    return EXIT.ok;
  }
  if (name === '--version' || name === 'version') {
    process.stdout.write(`vmctl ${VERSION}\n`);
    return EXIT.ok;
  }
  const command = findCommand(name);
  if (rest.includes('--help') || rest.includes('-h')) {
    process.stdout.write(commandHelp(command));
    return EXIT.ok;
  }
  const interrupted = new AbortController();
  process.once('SIGINT', () => interrupted.abort());
  const host = new LinuxHost();
  const context: CommandContext = {
    host,
    config: () => loadConfig(host, process.env, undefined),
    signal: interrupted.signal,
    print: (text) => void process.stdout.write(text),
    commands: COMMANDS,
  };
  return await command.run(rest, context);
}

function findCommand(name: string): Command {
  const command = COMMANDS.find((known) => known.name === name);
  if (command === undefined) throw new UsageError(`vmctl has no command "${name}"; "vmctl help" lists them`);
  return command;
}

function exitCode(error: unknown): number {
  if (error instanceof UsageError) return EXIT.usage;
  if (VmError.is(error, 'NotFound')) return EXIT.notFound;
  if (VmError.is(error, 'Unavailable')) return EXIT.unreachable;
  return EXIT.failed;
}

// A closed pipe (`vmctl list | head`) is an end like any other.
process.stdout.on('error', () => process.exit(EXIT.ok));
main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`vmctl: ${VmError.from(error).message}\n`);
    process.exitCode = exitCode(error);
  },
);
