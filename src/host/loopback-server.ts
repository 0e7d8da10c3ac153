import { constants, openSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { VmError } from '../core/errors.ts';
import { toVmError, withErrno } from './linux-errno.ts';
import type { Native } from './native.ts';
import { inNetworkNamespace } from './network-namespace.ts';
import { ownFd } from './owned-fd.ts';

const BACKLOG = 64;

/**
 * Takes every TCP connection to the loopback of the network namespace at `netns`, whatever its port, and hands it on with that
 * port. One socket listens and one small program in the kernel leads there (BPF_PROG_TYPE_SK_LOOKUP): nothing runs
 * until somebody connects, no rule of a firewall is needed, and the kernel takes both away when we end.
 *
 * The connections are the caller's; disposing ends the listening only. It does not keep the event loop alive.
 * @throws VmError FailedPrecondition where the kernel cannot do it, NotFound where no namespace is.
 */
export function serveLoopback(
  native: Native,
  netns: string,
  onConnection: (client: Socket, port: number) => void,
): Disposable {
  using made = new DisposableStack();
  const listener = inNetworkNamespace(native, netns, () =>
    withErrno('listen on the loopback of the pod', () => native.listenTcp(BACKLOG)),
  );
  const server = made.adopt(createServer({ allowHalfOpen: true, pauseOnConnect: true }), stop);
  server.on('connection', (client) => {
    const { localPort } = client;
    if (localPort === undefined || !isLoopback(client.localAddress)) client.resetAndDestroy();
    else onConnection(client, localPort);
  });
  // Node owns the listener from here on.
  server.listen({ fd: listener }).unref();
  using there = ownFd(withErrno(`open ${netns}`, () => openSync(netns, constants.O_RDONLY)));
  made.use(ownFd(lead(native, there.fd, listener)));
  return made.move();
}

function lead(native: Native, netns: number, listener: number): number {
  try {
    return native.catchLoopback(netns, listener);
  } catch (error) {
    const { message } = toVmError(error, 'lead the loopback of the pod to the VM');
    throw new VmError(
      'FailedPrecondition',
      `${message}; this needs Linux 5.9 or newer with CONFIG_BPF_SYSCALL, and CAP_BPF or CAP_SYS_ADMIN`,
      { cause: error },
    );
  }
}

/** A socket that listens for both families tells IPv4 addresses as IPv6 ones. */
function isLoopback(address: string | undefined): boolean {
  return address !== undefined && /^(::1$|(::ffff:)?127\.)/.test(address);
}

function stop(server: Server): void {
  server.close();
}
