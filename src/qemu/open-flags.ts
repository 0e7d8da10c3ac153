/**
 * The flags of open(2) that this folder gives to `Host.open`, as Linux has them on x86-64: `node:fs` and its constants
 * belong to `src/host`.
 */
export const openFlags = {
  O_RDONLY: 0,
  O_WRONLY: 1,
  O_RDWR: 2,
  O_CREAT: 0o100,
  O_APPEND: 0o2000,
  O_NOFOLLOW: 0o400000,
} as const;
