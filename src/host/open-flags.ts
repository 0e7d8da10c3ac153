import { constants } from 'node:fs';

/** The flags of open(2) that callers of `Host.open` use; `node:fs` itself is for `src/host` alone. */
export const openFlags = {
  O_RDONLY: constants.O_RDONLY,
  O_WRONLY: constants.O_WRONLY,
  O_RDWR: constants.O_RDWR,
  O_CREAT: constants.O_CREAT,
  O_EXCL: constants.O_EXCL,
  O_TRUNC: constants.O_TRUNC,
  O_APPEND: constants.O_APPEND,
  O_NONBLOCK: constants.O_NONBLOCK,
  O_DIRECT: constants.O_DIRECT,
  O_DIRECTORY: constants.O_DIRECTORY,
  O_NOFOLLOW: constants.O_NOFOLLOW,
  /** Names a file without opening it: nothing blocks, nothing is read. Node has no constant for it. */
  O_PATH: 0o10000000,
} as const;
