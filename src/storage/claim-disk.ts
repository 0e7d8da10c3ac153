import { VmError } from '../core/errors.ts';
import { LOCK_EX, LOCK_NB } from '../host/flock.ts';
import type { OwnedFd } from '../host/host.ts';
import type { Native } from '../host/native.ts';

/**
 * Claims a disk's file for one VM. The lock belongs to the open file, which QEMU inherits: it is there as long as QEMU
 * is, whatever happens to us, and no one has to give it back. Source: flock(2).
 * @param holder who has it, if that is known, such as `VM "web-0"`.
 * @throws VmError FailedPrecondition when another VM has it.
 */
export function claimDisk(
  native: Pick<Native, 'flock'>,
  file: OwnedFd,
  path: string,
  holder: () => string | undefined,
): void {
  if (native.flock(file.fd, LOCK_EX | LOCK_NB)) return;
  throw new VmError(
    'FailedPrecondition',
    `root disk "${path}" is in use by ${holder() ?? 'another process'}; one disk serves one VM at a time: stop that one first, or give this VM a disk of its own`,
  );
}

/** Whether somebody has claimed the disk right now. */
export function isClaimed(native: Pick<Native, 'flock'>, file: OwnedFd): boolean {
  return !native.flock(file.fd, LOCK_EX | LOCK_NB);
}
