import { connect } from 'node:net';
import { VmError } from '../core/errors.ts';

/**
 * Whether somebody listens on a unix socket; the socket's file alone proves nothing. A listener that is too busy to take
 * us (EAGAIN: its backlog is full) is one, too: taking its socket away would leave its VMs without a shim.
 * @throws VmError Internal when it cannot be told.
 */
export function socketAnswers(path: string): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const socket = connect({ path });
  socket.once('connect', () => {
    socket.destroy();
    resolve(true);
  });
  socket.once('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false);
    else if (error.code === 'EAGAIN') resolve(true);
    else
      reject(
        new VmError('Internal', `cannot tell who has the shim socket "${path}": ${error.message}`, {
          cause: error,
        }),
      );
  });
  return promise;
}
