import { randomUUID } from 'node:crypto';
import type { ContainerdClient } from './containerd-client.ts';
import { LEASES } from './containerd-methods.ts';

/** A command that is killed cannot end its lease; containerd does, a day later. */
const LIFETIME_MS = 24 * 3_600_000;
const END_MS = 5_000;

/**
 * Runs something whose blobs containerd's garbage collection leaves alone until they are named by an image. Source:
 * containerd docs/garbage-collection.md, "Garbage Collection labels".
 */
export async function withLease<T>(
  client: ContainerdClient,
  signal: AbortSignal,
  run: (lease: string) => Promise<T>,
): Promise<T> {
  const id = `vmctl-${randomUUID()}`;
  const expires = new Date(Date.now() + LIFETIME_MS).toISOString();
  await client.call(LEASES.create, { id, labels: { 'containerd.io/gc.expire': expires } }, { signal });
  try {
    return await run(id);
  } finally {
    // After a Ctrl-C as well, hence a signal of its own.
    await client
      .call(LEASES.delete, { id, sync: signal.aborted }, { signal: AbortSignal.timeout(END_MS) })
      .catch(() => undefined);
  }
}
