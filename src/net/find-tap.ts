import { absentIs } from '../host/absent-is.ts';
import type { OwnedFd } from '../host/host.ts';
import { withErrno } from '../host/linux-errno.ts';
import { ownFd } from '../host/owned-fd.ts';
import { isAlive, type ProcessIdentity } from '../host/process-identity.ts';
import type { TapDeps } from './tap.ts';

/**
 * The network namespace that a TAP is in now, by the descriptors that a process has of it: the kernel knows, also after the
 * namespace has lost its name. Undefined where the process has no such TAP, or the TAP is gone.
 * Sources: tun_chr_show_fdinfo and TUNGETDEVNETNS of drivers/net/tun.c.
 * @throws VmError PermissionDenied where the node forbids tracing even to root (kernel.yama.ptrace_scope = 3).
 */
export function findTap(
  { host, native }: TapDeps,
  process: ProcessIdentity,
  name: string,
): OwnedFd | undefined {
  const { pid } = process;
  const numbers = absentIs<string[]>([], () => host.listDir(`/proc/${pid}/fdinfo`));
  const number = numbers.find((fd) => nameOf(readInfo({ host, native }, pid, fd)) === name);
  if (number === undefined) return undefined;
  const context = `find the TAP ${name} of process ${pid}`;
  using pidfd = ownFd(withErrno(context, () => native.pidfdOpen(pid)));
  // The pid may have become another's.
  if (!isAlive(host, process)) return undefined;
  using queue = ownFd(withErrno(context, () => native.pidfdGetFd(pidfd.fd, Number(number))));
  return ownFd(withErrno(context, () => native.tunNetns(queue.fd)));
}

/** A descriptor may have been closed since it was listed. */
function readInfo({ host }: TapDeps, pid: number, fd: string): string {
  return absentIs('', () => host.readText(`/proc/${pid}/fdinfo/${fd}`));
}

/** A descriptor whose TAP is gone has no such line any more. */
function nameOf(info: string): string | undefined {
  return /^iff:[ \t]*(\S+)$/m.exec(info)?.[1];
}
