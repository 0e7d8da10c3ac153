/**
 * The flags of open(2) that this folder gives to `Host.open`, as Linux has them on x86-64: `node:fs` and its constants
 * belong to `src/host`.
 */
export const openFlags = {
  O_RDONLY: 0,
  O_RDWR: 2,
  O_CREAT: 0o100,
  O_EXCL: 0o200,
  O_NONBLOCK: 0o4000,
  O_DIRECT: 0o40000,
  O_DIRECTORY: 0o200000,
  O_NOFOLLOW: 0o400000,
  /** Names a file without opening it: nothing blocks, nothing is read. Node has no constant for it. */
  O_PATH: 0o10000000,
} as const;
