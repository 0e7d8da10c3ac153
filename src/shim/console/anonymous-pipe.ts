import type { OwnedFd } from '../../host/host.ts';
import type { ConsoleHost } from './console-host.ts';
import { openFlags } from '../../host/open-flags.ts';

const { O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY } = openFlags;

export interface AnonymousPipe {
  readonly readEnd: OwnedFd;
  readonly writeEnd: OwnedFd;
}

/**
 * A pipe(2), which Node lacks: a fifo that is opened at both ends and unlinked. The end that a child will get blocks,
 * as programs expect of their descriptors; ours does not. `scratch` is a path in a private directory where nothing is.
 */
export async function openAnonymousPipe(
  host: ConsoleHost,
  scratch: string,
  ours: 'read' | 'write',
  signal: AbortSignal,
): Promise<AnonymousPipe> {
  await host.exec('mkfifo', ['-m', '600', '--', scratch], { signal });
  try {
    // While this is open, neither of the two below waits for its peer.
    using both = new DisposableStack();
    both.use(host.open(scratch, O_RDWR | O_NONBLOCK));
    const readEnd = host.open(scratch, ours === 'read' ? O_RDONLY | O_NONBLOCK : O_RDONLY);
    try {
      return { readEnd, writeEnd: host.open(scratch, ours === 'write' ? O_WRONLY | O_NONBLOCK : O_WRONLY) };
    } catch (error) {
      readEnd[Symbol.dispose]();
      throw error;
    }
  } finally {
    host.remove(scratch);
  }
}
