import { once } from 'node:events';
import { connect } from 'node:net';
import { toVmError } from './linux-errno.ts';
import { socketFd } from './socket-fd.ts';
import type { OwnedFd } from './host.ts';

/**
 * A connection to a listening unix socket, to be given to a child: nothing is read from it here. Disposing closes our copy.
 * @throws VmError naming the path.
 */
export async function connectedSocket(path: string, signal: AbortSignal): Promise<OwnedFd> {
  const socket = connect({ path });
  // Node would begin to read as soon as it is connected, and the child would miss what was read.
  socket.pause();
  try {
    await once(socket, 'connect', { signal });
  } catch (error) {
    socket.destroy();
    throw toVmError(error, `connect to "${path}"`);
  }
  socket.on('error', () => undefined);
  return {
    get fd() {
      return socketFd(socket);
    },
    [Symbol.dispose]: () => void socket.destroy(),
  };
}
