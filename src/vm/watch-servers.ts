import type { Logger } from '../core/logger.ts';
import type { QemuLog } from '../qemu/qemu-log.ts';

/** virtiofsd and QEMU end within moments of each other, in either order. */
export const TOGETHER_MS = 2000;

/** The virtiofsd of a shared directory, started by us or taken over. */
export interface WatchedServer {
  /** Where the container would see what it serves. */
  readonly volume: string;
  readonly log: QemuLog;
  readonly ended: Promise<unknown>;
}

/**
 * Takes note, also in the log, of each that ends before QEMU does: the guest has lost its directory. Until then what a guest makes
 * it say is bounded.
 * @returns what gives a sentence for each that has.
 */
export function watchServers(
  log: Logger,
  id: string,
  servers: readonly WatchedServer[],
  qemu: { readonly exited: Promise<unknown> },
): () => readonly string[] {
  const lost: string[] = [];
  const watch = async (server: WatchedServer): Promise<void> => {
    const small = server.log.keepSmall();
    await Promise.race([server.ended, qemu.exited]);
    small[Symbol.dispose]();
    await server.ended;
    const both = await within(
      qemu.exited.then(() => true),
      TOGETHER_MS,
    );
    if (both !== undefined) return;
    const what = `the guest has lost a shared directory until it is started again: ${describeEnd(server)}`;
    lost.push(what);
    log.error(what, { id });
  };
  for (const server of servers) void watch(server);
  return () => lost;
}

export function describeEnd({ volume, log }: WatchedServer): string {
  const said = log.tail(4).join('; ');
  return `virtiofsd for the volume at "${volume}" ended: ${said === '' ? 'it said nothing' : said}`;
}

export async function within<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), ms);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
