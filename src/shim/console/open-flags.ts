/**
 * Flags of open(2) as Linux numbers them on x86-64 and arm64 (asm-generic/fcntl.h). Stated here because `node:fs`,
 * which has them as well, may be imported by `src/host` alone.
 */
export const O_RDONLY = 0o0;
export const O_WRONLY = 0o1;
export const O_RDWR = 0o2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_NONBLOCK = 0o4000;
