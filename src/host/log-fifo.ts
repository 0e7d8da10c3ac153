import { constants, openSync, writeSync } from 'node:fs';

/**
 * Writes lines to a fifo that may have no reader or a full pipe at any time (containerd restarts): such a line is
 * dropped, because a log is never worth blocking a guest. Opened anew after the reader went away and came back.
 */
export function logFifo(path: string): (line: string) => void {
  let fd: number | undefined;
  return (line) => {
    try {
      fd ??= openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
      writeSync(fd, line);
    } catch {
      // ENXIO, EPIPE, EAGAIN or no such file: nobody is there to read it.
    }
  };
}
