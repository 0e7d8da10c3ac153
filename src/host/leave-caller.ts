import { closeSync, constants, openSync } from 'node:fs';
import { VmError } from '../core/errors.ts';
import { errnoName } from './linux-errno.ts';
import type { Native } from './native.ts';

/**
 * Makes a daemon of a process that somebody started and waits for: /dev/null takes the place of stdin, stdout and
 * stderr, so whoever reads them sees their end, and no signal to the caller's session reaches us any more.
 * @param inherited the caller's other descriptors, which are closed: Node has its own open by now, so only whoever
 * started it can know which they are.
 */
export function leaveCaller(native: Native, inherited: readonly number[]): void {
  for (const fd of inherited) closeSync(fd);
  for (const fd of [0, 1, 2]) {
    closeSync(fd);
    // The kernel gives the lowest number that is free.
    const opened = openSync('/dev/null', constants.O_RDWR);
    if (opened !== fd) throw new VmError('Internal', `/dev/null was opened as ${opened} instead of ${fd}`);
  }
  try {
    native.setsid();
  } catch (error) {
    // Run by hand from a shell we lead a process group, and may stay in its session.
    if (errnoName(error) !== 'EPERM') throw error;
  }
}
