import { type Command, parseCommandLine, UsageError } from './command.ts';
import type { ConsoleStream } from './control-client.ts';
import { ConsoleKeys, ESCAPE_HELP } from './console-keys.ts';
import { connectVm } from './connect-vm.ts';

const DEFAULT_REPLAY = 4096;

export const consoleCommand: Command = {
  name: 'console',
  usage: 'VM [--namespace NS] [--replay BYTES]',
  summary: 'type at a VM’s serial console',
  details: `Joins your terminal to the VM's serial console; others may be joined at the same time and see the same.
Leave with Ctrl-] and then q. ${ESCAPE_HELP}

A serial line carries no window size. Ctrl-] r types "stty rows R cols C" at the guest's shell with the size your
terminal has now.`,
  options: [
    { flag: '--namespace NS', text: 'only VMs of this containerd namespace' },
    { flag: '--replay BYTES', text: `how much of the past to show first (default ${DEFAULT_REPLAY})` },
  ],
  takesVm: true,
  async run(args, context) {
    const { values, positionals } = parseCommandLine(args, {
      namespace: { type: 'string' },
      replay: { type: 'string', default: String(DEFAULT_REPLAY) },
    });
    if (!/^\d{1,9}$/.test(values.replay))
      throw new UsageError(`--replay "${values.replay}" is not a number of bytes`);
    await using client = await connectVm(context, positionals, values.namespace);
    const stream = client.console(Number(values.replay));
    // Ctrl-C where it is not a key of the guest's: stdin is no terminal.
    context.signal.addEventListener('abort', () => stream.close(), { once: true });
    using _terminal = rawTerminal();
    if (process.stdin.isTTY) process.stderr.write('connected; leave with Ctrl-] q\r\n');
    const typing = type(stream);
    typing.catch(() => undefined);
    for await (const data of stream) process.stdout.write(data);
    process.stdin.destroy();
    process.stderr.write('\r\nconsole closed\r\n');
    return 0;
  },
};

/** Sends what is typed until the user leaves; ends the stream then. */
async function type(stream: ConsoleStream): Promise<void> {
  const keys = new ConsoleKeys(() => ({ rows: process.stdout.rows, columns: process.stdout.columns }));
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    const { send, leave, say } = process.stdin.isTTY
      ? keys.feed(chunk)
      : { send: chunk, leave: false, say: '' };
    if (say !== '') process.stderr.write(say);
    if (send.length > 0) await stream.type(send);
    if (leave) {
      stream.close();
      return;
    }
  }
  // Input from a pipe has ended; output is still wanted.
}

/** A terminal that sends every key at once, for as long as the console is open. */
function rawTerminal(): Disposable {
  if (!process.stdin.isTTY) return { [Symbol.dispose]: () => undefined };
  process.stdin.setRawMode(true);
  return { [Symbol.dispose]: () => void process.stdin.setRawMode(false) };
}
