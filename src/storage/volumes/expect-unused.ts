import { VmError } from '../../core/errors.ts';
import { errnoName } from '../../host/linux-errno.ts';
import type { Native } from '../../host/native.ts';
import type { OpenDisk } from './open-disk.ts';

/**
 * Bytes of an image that QEMU locks: one for each permission it uses, and a hundred further on one for each that it does not
 * share. Source: QEMU block/file-posix.c, RAW_LOCK_PERM_BASE and RAW_LOCK_SHARED_BASE; block-common.h, BLK_PERM_WRITE.
 */
const LOCKS = { start: 100, length: 164 };
const WRITER = { start: 101, length: 1 };

/**
 * Refuses a disk that a QEMU of this or, over a network file system, of another node uses already: writers want it alone,
 * readers without a writer. QEMU's own locks keep it after that; this is for the sentence, and before anything starts.
 * @param holder who has it, if that is known, such as `VM "web-0"`.
 * @throws VmError FailedPrecondition
 */
export function expectUnused(
  native: Pick<Native, 'ofdLocked'>,
  { spec, fd, kind, readOnly, path }: OpenDisk,
  holder: () => string | undefined,
): void {
  if (kind !== 'file') return;
  const { start, length } = readOnly ? WRITER : LOCKS;
  if (!isLocked(native, fd.fd, start, length)) return;
  throw new VmError(
    'FailedPrecondition',
    `disk "${spec.name}" ("${path}") is in use by ${holder() ?? 'another QEMU'}; one disk serves one VM at a time, so stop that one first`,
  );
}

function isLocked(native: Pick<Native, 'ofdLocked'>, fd: number, start: number, length: number): boolean {
  try {
    return native.ofdLocked(fd, start, length);
  } catch (error) {
    // Some network file systems know no locks.
    if (['ENOLCK', 'EOPNOTSUPP', 'ENOTSUP', 'EINVAL', 'ENOSYS'].includes(errnoName(error) ?? ''))
      return false;
    throw error;
  }
}
