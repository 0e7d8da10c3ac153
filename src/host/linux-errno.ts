import { type ErrorKind, VmError } from '../core/errors.ts';

/** Kinds of the errno names that mean something to a caller; the rest is Internal. host.ts documents this table. */
const kinds: Readonly<Record<string, ErrorKind>> = {
  ENOENT: 'NotFound',
  ENOTDIR: 'NotFound',
  EEXIST: 'AlreadyExists',
  EACCES: 'PermissionDenied',
  EPERM: 'PermissionDenied',
  ENOSPC: 'ResourceExhausted',
  EDQUOT: 'ResourceExhausted',
  EMFILE: 'ResourceExhausted',
  ENFILE: 'ResourceExhausted',
  EAGAIN: 'ResourceExhausted',
  ENOMEM: 'ResourceExhausted',
  EBUSY: 'FailedPrecondition',
  EROFS: 'FailedPrecondition',
  ENOTEMPTY: 'FailedPrecondition',
};

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'it does not exist',
  ENOTDIR: 'a part of the path is not a directory',
  EEXIST: 'it exists already',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  ENOSPC: 'no space left on the device',
  EDQUOT: 'the disk quota is used up',
  EMFILE: 'this process has too many open descriptors',
  ENFILE: 'the system has too many open files',
  EAGAIN: 'the limit of processes or locks is reached',
  ENOMEM: 'not enough memory',
  EBUSY: 'it is in use',
  EROFS: 'its file system is read-only',
  ENOTEMPTY: 'the directory is not empty',
};

/** The errno name ("ENOENT") of an error thrown by Node or the native addon, looked for along its causes. */
export function errnoName(error: unknown): string | undefined {
  for (let e: unknown = error; e instanceof Error; e = e.cause) {
    if ('code' in e && typeof e.code === 'string' && 'syscall' in e) return e.code;
  }
  return undefined;
}

/**
 * What a failed system call means, as host.ts documents it: `cannot <action>: <reason>`. `action` says what was
 * attempted and on which path. An error that is no system error becomes Internal with its own message.
 */
export function toVmError(error: unknown, action: string): VmError {
  if (error instanceof VmError) return error;
  const name = errnoName(error);
  const kind = (name === undefined ? undefined : kinds[name]) ?? 'Internal';
  const reason = name === undefined ? undefined : reasons[name];
  const message = reason ?? (error instanceof Error ? error.message : String(error));
  return new VmError(kind, `cannot ${action}: ${message}${reason === undefined ? '' : ` (${name ?? ''})`}`, {
    cause: error,
  });
}

/** Runs `effect` and translates what it throws. */
export function withErrno<T>(action: string, effect: () => T): T {
  try {
    return effect();
  } catch (error) {
    throw toVmError(error, action);
  }
}
