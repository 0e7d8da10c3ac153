import type { Host } from '../host/host.ts';
import type { Native } from '../host/native.ts';
import { QmpClient } from '../qemu/qmp-client.ts';
import { cont, queryStatus, quit, systemPowerdown } from '../qemu/qmp-commands.ts';
import { watchProcessEnd } from '../host/process-end.ts';
import type { VmRecord } from './record.ts';

/** How long QEMU may take to answer, and to leave once it was told to. */
const QMP_MS = 10_000;

/**
 * Shuts a guest down that nobody runs any more: its power button, when `graceMs` are over or it was not running the plug.
 * Resolves when QEMU has ended or has to be killed; what is left is `cleanUpTask`'s.
 */
export async function shutDownOrphan(
  { host, native }: { host: Host; native: Native },
  record: VmRecord,
  graceMs: number,
  signal: AbortSignal,
): Promise<void> {
  if (record.qemu === undefined) return;
  using end = watchProcessEnd(host, native, { ...record.qemu, bootId: record.bootId });
  try {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(QMP_MS)]);
    using qmp = await QmpClient.connect(`${record.runDir}/qmp.sock`, { signal: limit });
    await powerOff(qmp, end.ended, graceMs, signal);
    await quit(qmp, { signal: AbortSignal.timeout(QMP_MS) });
    await within(end.ended, QMP_MS, signal);
  } catch {
    // A QEMU that does not answer is killed by the caller's clean-up, which needs none of this.
  }
}

async function powerOff(
  qmp: QmpClient,
  ended: Promise<void>,
  graceMs: number,
  signal: AbortSignal,
): Promise<void> {
  using down = qmp.listen(['SHUTDOWN', 'GUEST_PANICKED']);
  const { status, running } = await queryStatus(qmp, { signal });
  // Somebody has paused it; it cannot see the button unless it goes on.
  if (status === 'paused') await cont(qmp, { signal });
  else if (!running) return;
  await systemPowerdown(qmp, { signal });
  await within(Promise.race([down.next(), ended]), graceMs, signal);
}

/** Resolves with what comes first: the promise, the end of the time, or the signal. */
async function within(promise: Promise<unknown>, ms: number, signal: AbortSignal): Promise<void> {
  const { promise: over, resolve } = Promise.withResolvers<undefined>();
  const give = (): void => resolve(undefined);
  const timer = setTimeout(give, ms);
  signal.addEventListener('abort', give, { once: true });
  if (!signal.aborted) await Promise.race([promise.catch(() => undefined), over]);
  clearTimeout(timer);
  signal.removeEventListener('abort', give);
}
