import { VmError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import type { Host } from '../host/host.ts';
import { openFlags } from '../host/open-flags.ts';
import type { GuestDns } from '../net/guest-network.ts';
import { parseResolvConf } from '../net/resolv-conf.ts';

/** More than any resolver reads. */
const MAX_BYTES = 64 * 1024;

/**
 * The DNS settings in a pod's resolv.conf. The file may be a volume of the user's, so it is opened without waiting for
 * whatever it is, and read to a limit.
 * @throws VmError FailedPrecondition for what is no file that can be read.
 */
export function readPodDns({ host, log }: { host: Host; log: Logger }, path: string): GuestDns {
  const { dns, omissions } = parseResolvConf(readSmallFile(host, path));
  for (const omission of omissions) log.warn(omission, { path });
  return dns;
}

function readSmallFile(host: Host, path: string): string {
  try {
    using file = host.open(path, openFlags.O_RDONLY | openFlags.O_NONBLOCK);
    const { kind } = host.inspectFd(file.fd);
    if (kind !== 'file') throw new VmError('FailedPrecondition', `it is a ${kind}`);
    return host.readBytes(file.fd, 0, MAX_BYTES).toString('utf8');
  } catch (cause) {
    const reason = VmError.is(cause) ? cause.message : 'it cannot be read';
    throw new VmError(
      'FailedPrecondition',
      `the pod’s /etc/resolv.conf is "${path}" on the node, which is no file to read (${reason}); mount a file there, or nothing`,
      { cause },
    );
  }
}
