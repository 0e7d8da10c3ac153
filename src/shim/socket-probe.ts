import { connect } from 'node:net';

/** Whether somebody accepts connections on a unix socket; a socket file alone proves nothing. */
export function socketAnswers(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect({ path });
  socket.once('connect', () => {
    socket.destroy();
    resolve(true);
  });
  socket.once('error', () => resolve(false));
  return promise;
}
