import type { Host } from '../../host/host.ts';

/** What console IO wants of the machine: the part of `Host` it uses, and two verbs for a file that grows. */
export interface ConsoleHost extends Pick<
  Host,
  'readText' | 'open' | 'readBytes' | 'inspect' | 'makeDir' | 'remove' | 'exec' | 'spawn'
> {
  /**
   * One write(2) to a descriptor opened with O_APPEND. Returns how many bytes were taken, at least one; throws
   * `VmError`: ResourceExhausted for ENOSPC and EDQUOT, Internal for the rest.
   */
  appendBytes(fd: number, data: Uint8Array): number;
  /** rename(2): replaces `to`. An absent `from` is NotFound. */
  rename(from: string, to: string): void;
}
