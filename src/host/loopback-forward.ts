import { connect, type Socket } from 'node:net';
import { serveLoopback } from './loopback-server.ts';
import type { Native } from './native.ts';

/** Longer than a neighbour takes to be found missing; the kernel alone would try for two minutes. */
const DIAL_MS = 10_000;

export interface LoopbackForward {
  /** Path of the network namespace whose loopback it is. */
  readonly netns: string;
  /** Where the connections are made instead, in our own namespace: the first that takes them. */
  readonly addresses: readonly string[];
  /** None of the addresses took a connection; the client sees a reset. */
  readonly onRefused?: (port: number, reason: Error) => void;
}

/**
 * Whoever connects to a TCP port of the loopback in another network namespace reaches the same port of `addresses`. It costs
 * a listening socket while nobody does. Disposing ends every connection.
 * @throws VmError as `serveLoopback` does.
 */
export function forwardLoopback(native: Native, forward: LoopbackForward): Disposable {
  const open = new Set<Socket>();
  const track = (socket: Socket): Socket => {
    open.add(socket);
    return socket.once('close', () => open.delete(socket));
  };
  const server = serveLoopback(native, forward.netns, (client, port) => {
    track(client);
    // Told by the other side's end as well; without a listener it would be thrown.
    client.on('error', () => undefined);
    dial(port, forward.addresses, track).then(
      (guest) => (client.destroyed ? guest.destroy() : join(client, guest)),
      (error: unknown) => {
        if (client.destroyed) return;
        client.resetAndDestroy();
        forward.onRefused?.(port, error instanceof Error ? error : new Error(String(error)));
      },
    );
  });
  return {
    [Symbol.dispose]: () => {
      server[Symbol.dispose]();
      for (const socket of open) socket.destroy();
    },
  };
}

/** Rejects with what the last address said. */
async function dial(
  port: number,
  [host, ...others]: readonly string[],
  track: (socket: Socket) => Socket,
): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  const socket = track(connect({ host: host ?? '', port, allowHalfOpen: true }));
  socket.once('connect', () => resolve(undefined));
  socket.once('error', reject);
  // Without an error when everything is being ended.
  socket.once('close', () => reject(new Error('the connection was given up')));
  socket.setTimeout(DIAL_MS, () => socket.destroy(new Error(`${host ?? ''} does not answer`)));
  try {
    await promise;
    socket.setTimeout(0);
    return socket;
  } catch (error) {
    if (others.length === 0) throw error;
    return await dial(port, others, track);
  }
}

/** Each side's end is passed on by itself, so that who has sent all still gets the answer; a break ends both. */
function join(client: Socket, guest: Socket): void {
  client.once('error', () => guest.resetAndDestroy());
  guest.once('error', () => client.resetAndDestroy());
  client.pipe(guest);
  guest.pipe(client);
}
