import { describeError } from '../core/errors.ts';
import { describeExit, type TaskExit } from '../core/exit.ts';
import type { Logger } from '../core/logger.ts';
import type { Host } from '../host/host.ts';

/**
 * Tells kubelet why a VM ended: what stands in the file that it mounts at /dev/termination-log becomes the container's
 * termination message, which `kubectl describe pod` shows.
 */
export function writeTerminationMessage(
  host: Host,
  log: Logger,
  path: string | undefined,
  { reason }: TaskExit,
): void {
  if (path === undefined) return;
  try {
    // Never made by us: kubelet made it, and a path that is something else now is not ours to follow.
    if (host.inspect(path)?.kind === 'file') host.writeText(path, describeExit(reason));
  } catch (error) {
    log.warn('the termination message could not be written', { error: describeError(error) });
  }
}
