import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { VmError } from '../core/errors.ts';
import { type Command, type CommandContext, parseCommandLine, UsageError } from './command.ts';
import { connectVm } from './connect-vm.ts';

export const vncCommand: Command = {
  name: 'vnc',
  usage: 'VM [--namespace NS] [--port PORT]',
  summary: 'where a VM’s screen is, or a port of this machine for it',
  details: `Prints the unix socket on which the VM serves VNC (RFB), for viewers on this node and for ssh, which forwards it:

  vncviewer "$(vmctl vnc web-1)"
  ssh -L 5901:"$(ssh root@node vmctl vnc web-1)" root@node     then: vncviewer localhost:5901

With --port it listens on 127.0.0.1:PORT until Ctrl-C, for viewers that know no unix sockets; 0 takes a free port. VNC has
no password here: as long as the port is open, everybody on this node, pods with hostNetwork among them, has the screen.`,
  options: [
    { flag: '--namespace NS', text: 'only VMs of this containerd namespace' },
    { flag: '--port PORT', text: 'listen on this port of 127.0.0.1 instead of printing the socket' },
  ],
  takesVm: true,
  async run(args, context) {
    const { values, positionals } = parseCommandLine(args, {
      namespace: { type: 'string' },
      port: { type: 'string' },
    });
    const port = values.port === undefined ? undefined : parsePort(values.port);
    const socket = await vncSocket(context, positionals, values.namespace);
    if (port === undefined) context.print(`${socket}\n`);
    else await forward(socket, port, context);
    return 0;
  },
};

async function vncSocket(
  context: CommandContext,
  positionals: readonly string[],
  namespace: string | undefined,
): Promise<string> {
  await using client = await connectVm(context, positionals, namespace);
  const { vncSocket = '', name = '' } = await client.status(context.signal);
  if (vncSocket !== null && vncSocket !== '') return vncSocket;
  throw new VmError(
    'FailedPrecondition',
    `VM "${name ?? ''}" has no screen; create it with annotation vmshim.io/video set to "std"`,
  );
}

async function forward(socket: string, port: number, { signal, print }: CommandContext): Promise<void> {
  const viewers = new Set<Socket>();
  const server = createServer((viewer) => {
    viewers.add(viewer);
    // Either end may leave; the other one follows.
    void pipeline(viewer, createConnection(socket), viewer)
      .catch(() => undefined)
      .finally(() => viewers.delete(viewer));
  });
  const ended = Promise.withResolvers<undefined>();
  server.once('error', (cause) =>
    ended.reject(
      new VmError(
        'FailedPrecondition',
        `cannot listen on 127.0.0.1:${port}: ${cause.message}; take another --port`,
        {
          cause,
        },
      ),
    ),
  );
  server.listen({ host: '127.0.0.1', port }, () =>
    print(`VNC on 127.0.0.1:${boundPort(server)}, end with Ctrl-C\n`),
  );
  const end = (): void => ended.resolve(undefined);
  signal.addEventListener('abort', end, { once: true });
  if (signal.aborted) end();
  await ended.promise;
  server.close();
  for (const viewer of viewers) viewer.destroy();
}

function boundPort(server: Server): number {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

function parsePort(text: string): number {
  if (/^\d{1,5}$/.test(text) && Number(text) <= 65_535) return Number(text);
  throw new UsageError(`--port "${text}" is no port; give a number from 0 to 65535`);
}
