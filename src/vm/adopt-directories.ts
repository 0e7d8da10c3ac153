import type { SharedDirectory } from '../core/shared-directory.ts';
import type { Host } from '../host/host.ts';
import { watchProcessEnd } from '../host/process-end.ts';
import { QemuLog } from '../qemu/qemu-log.ts';
import type { MachineDeps } from './machine-request.ts';
import type { SharedRecord, VmRecord } from './record.ts';
import { watchServers } from './watch-servers.ts';

/**
 * The first directory that is not the one which the virtiofsd of a guest that runs serves, in words for people; undefined where all
 * are the same ones: kubelet keeps a pod's volumes mounted while it makes the pod's sandbox anew, and who holds a directory
 * keeps the numbers of its file system and inode.
 */
export function otherDirectory(
  host: Pick<Host, 'inspect'>,
  running: readonly SharedRecord[],
  wanted: readonly SharedDirectory[],
): string | undefined {
  // Of a record of an older version, whose guests did not outlive their shims.
  if (running.length !== wanted.length) return 'the virtiofsds of its shared directories are not known';
  const other = wanted.find(({ mount }, i) => host.inspect(mount.source)?.identity !== running[i]?.source);
  return other && `the volume at "${other.mount.destination}" is another directory than the guest has`;
}

/** Whether a guest that runs has the directories that its container asks for; the log says which one is another. */
export function hasDirectories(
  { host, log }: Pick<MachineDeps, 'host' | 'log'>,
  { shared = [], id }: VmRecord,
  wanted: readonly SharedDirectory[],
): boolean {
  const other = otherDirectory(host, shared, wanted);
  if (other === undefined) return true;
  log.warn(`${other}, so it has to boot anew`, { id });
  return false;
}

/** Those of a guest that has been taken over. Disposing ends the watch, not what is watched. */
export interface AdoptedDirectories extends Disposable {
  /** A sentence for each that has ended before QEMU. */
  readonly lost: () => readonly string[];
}

/**
 * Watches over the virtiofsds of a guest that has been taken over. Each goes on beside QEMU, as it needs nobody. One that has ended
 * while nobody looked is told of now.
 */
export function adoptDirectories(
  { host, native, log }: Pick<MachineDeps, 'host' | 'native' | 'log'>,
  { shared = [], runDir, id, bootId }: VmRecord,
  wanted: readonly SharedDirectory[],
  qemu: { readonly exited: Promise<unknown> },
): AdoptedDirectories {
  using stack = new DisposableStack();
  const servers = shared.map(({ server, logStart }, i) => ({
    volume: wanted[i]?.mount.destination ?? '',
    log: new QemuLog(host, `${runDir}/shared-${i}.log`, logStart),
    ended: stack.use(watchProcessEnd(host, native, { ...server, bootId })).ended,
  }));
  const lost = watchServers(log, id, servers, qemu);
  const watching = stack.move();
  return { lost, [Symbol.dispose]: () => watching.dispose() };
}
