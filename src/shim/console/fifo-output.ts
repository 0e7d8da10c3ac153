import type { ConsoleHost } from './console-host.ts';
import type { ConsoleSpool } from './console-spool.ts';
import { openFlags } from '../../host/open-flags.ts';
import { PipeOutput, type PipeOutputOptions } from './pipe-output.ts';

const { O_NONBLOCK, O_RDONLY, O_WRONLY } = openFlags;

/** Output to a fifo that containerd's client made. Opening never waits for the reader: our own read end is the first. */
export function openFifoOutput(
  host: ConsoleHost,
  spool: ConsoleSpool,
  path: string,
  options: PipeOutputOptions,
): PipeOutput {
  const readEnd = host.open(path, O_RDONLY | O_NONBLOCK);
  try {
    return new PipeOutput(spool, host.open(path, O_WRONLY | O_NONBLOCK), readEnd, options);
  } catch (error) {
    readEnd[Symbol.dispose]();
    throw error;
  }
}
