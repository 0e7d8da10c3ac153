import type { Socket } from 'node:net';
import { VmError } from '../core/errors.ts';

/**
 * The descriptor of a connected socket, for what Node has no call for (SCM_RIGHTS). Node names it on the handle below the
 * socket only, without a word in its documentation, hence the check. It is the socket's own: never close it.
 */
export function socketFd(socket: Socket): number {
  const handle: unknown = '_handle' in socket ? socket._handle : undefined;
  const fd: unknown = typeof handle === 'object' && handle !== null && 'fd' in handle ? handle.fd : undefined;
  if (typeof fd === 'number' && fd >= 0) return fd;
  throw new VmError('Unavailable', 'the socket is closed');
}
