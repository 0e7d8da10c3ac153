/** Operations of flock(2), of Linux's include/uapi/asm-generic/fcntl.h. */
export const LOCK_SH = 1;
export const LOCK_EX = 2;
/** Fails instead of waiting. */
export const LOCK_NB = 4;
