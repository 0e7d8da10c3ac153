import type { Host } from './host.ts';
import { errnoName, toVmError } from './linux-errno.ts';
import type { Native } from './native.ts';
import { ownFd } from './owned-fd.ts';
import { isAlive, type ProcessIdentity } from './process-identity.ts';

/**
 * Sends a signal to exactly that process, never to another that got its pid since: the pidfd is opened first, then the
 * identity behind it is compared (pidfd_open(2)). Needs Linux 5.3.
 *
 * @returns false when that process has ended already
 */
export function killIdentity(host: Host, native: Native, identity: ProcessIdentity, signal: number): boolean {
  try {
    using pidfd = ownFd(native.pidfdOpen(identity.pid));
    if (!isAlive(host, identity)) return false;
    native.pidfdSendSignal(pidfd.fd, signal);
    return true;
  } catch (error) {
    if (errnoName(error) === 'ESRCH') return false;
    throw toVmError(error, `send signal ${signal} to process ${identity.pid}`);
  }
}
