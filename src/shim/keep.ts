import { connect } from 'node:net';
import { LinuxHost } from '../host/linux-host.ts';
import { loadNative } from '../host/native.ts';
import { watchProcessEnd } from '../host/process-end.ts';
import { watchRemoval } from '../host/watch-removal.ts';
import { QmpClient } from '../qemu/qmp-client.ts';
import { queryStatus } from '../qemu/qmp-commands.ts';
import { type CleanUpDeps, cleanUpTask } from '../vm/clean-up.ts';
import { shutDownOrphan } from '../vm/end-orphan.ts';
import { lives } from '../vm/leave-orphan.ts';
import { ourMark } from '../vm/orphan-claim.ts';
import { lockOwners } from '../vm/orphan-marker.ts';
import { readRecord, RECORD_FILE, type VmRecord, writeRecord } from '../vm/record.ts';
import type { ShimFlags } from './args.ts';
import { ConsoleLog } from './console/console-log.ts';

/** A QEMU that does not answer by then is not going to tell us of its guest's end; its own end we see anyhow. */
const QMP_MS = 10_000;
/** A killed QEMU is gone within milliseconds; commands that undo its network take longer on a busy node. */
const CLEAN_UP_MS = 60_000;
const DOWN = ['shutdown', 'guest-panicked'];

/**
 * The keeper of an orphan: writes down what its guest prints, and ends it when its deadline comes, when kubelet gives its pod
 * up, or when the guest has ended by itself. A shim that takes the guest over ends us. No daemon: it goes with its VM.
 */
export async function keep(flags: ShimFlags): Promise<void> {
  const deps = { host: new LinuxHost(), native: loadNative() };
  const record = beginWatch(deps, flags.bundle);
  if (record?.orphan === undefined || record.qemu === undefined) return;
  {
    using watching = new DisposableStack();
    const ends = [dueAt(watching, record.orphan.deadline), guestDown(watching, record)];
    const identity = { ...record.qemu, bootId: record.bootId };
    ends.push(watching.use(watchProcessEnd(deps.host, deps.native, identity)).ended);
    const podDir = record.survival?.podDir;
    if (podDir !== undefined) ends.push(watching.use(watchRemoval(podDir)).removed);
    logConsole(deps, watching, record);
    await Promise.race(ends);
  }
  const ending = beginEnd(deps, flags.bundle);
  if (ending === undefined) return;
  using logging = new DisposableStack();
  logConsole(deps, logging, ending);
  const forEver = new AbortController();
  await shutDownOrphan(deps, ending, ending.survival?.graceMs ?? 0, forEver.signal);
  logging.dispose();
  await cleanUpTask(deps, `${ending.runDir}/${RECORD_FILE}`, AbortSignal.timeout(CLEAN_UP_MS));
}

/** Writes us into the record; undefined when somebody else has the guest, or nobody needs us any more. */
function beginWatch({ host, native }: CleanUpDeps, runDir: string): VmRecord | undefined {
  return change({ host, native }, runDir, (record) => {
    const { orphan } = record;
    if (orphan === undefined || lives(host, record, orphan.keeper)) return undefined;
    return { ...record, orphan: { ...orphan, keeper: ourMark({ host }) } };
  });
}

/** From here on no shim takes the guest over; undefined when one has. */
function beginEnd({ host, native }: CleanUpDeps, runDir: string): VmRecord | undefined {
  return change({ host, native }, runDir, (record) => {
    const { orphan } = record;
    if (orphan?.keeper?.pid !== process.pid) return undefined;
    return { ...record, orphan: { ...orphan, ending: true } };
  });
}

function change(
  { host, native }: CleanUpDeps,
  runDir: string,
  next: (record: VmRecord) => VmRecord | undefined,
): VmRecord | undefined {
  const path = `${runDir}/${RECORD_FILE}`;
  if (host.inspect(path) === undefined) return undefined;
  using _turn = lockOwners(host, native, runDir.slice(0, runDir.lastIndexOf('/')));
  const record = readRecord(host, path);
  if (record === undefined || lives(host, record, record.shim)) return undefined;
  const changed = next(record);
  if (changed !== undefined) writeRecord(host, changed);
  return changed;
}

/** Resolves at a moment, in milliseconds since the epoch. */
function dueAt(stack: DisposableStack, moment: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), Math.max(0, moment - Date.now()));
  stack.defer(() => clearTimeout(timer));
  return promise;
}

/** Resolves when the guest has ended, which `-no-shutdown` makes QEMU survive; never where QEMU does not tell. */
async function guestDown(stack: DisposableStack, { runDir }: VmRecord): Promise<void> {
  const never = Promise.withResolvers<undefined>().promise;
  const gone = new AbortController();
  stack.defer(() => gone.abort());
  try {
    const signal = AbortSignal.any([gone.signal, AbortSignal.timeout(QMP_MS)]);
    const qmp = stack.use(await QmpClient.connect(`${runDir}/qmp.sock`, { signal }));
    const down = stack.use(qmp.listen(['SHUTDOWN', 'GUEST_PANICKED']));
    const { status } = await queryStatus(qmp, { signal });
    if (DOWN.includes(status)) return;
    await down.next();
  } catch {
    await never;
  }
}

/** Nobody else reads it meanwhile, and a guest does not wait for a reader: what it prints would be lost. */
function logConsole(
  { host }: CleanUpDeps,
  stack: DisposableStack,
  { runDir, logDir, survival }: VmRecord,
): void {
  const log = stack.use(
    new ConsoleLog(host, `${logDir}/console.log`, {
      ...(survival !== undefined && { bytes: survival.console.logBytes, files: survival.console.logFiles }),
    }),
  );
  const socket = connect({ path: `${runDir}/console.sock` });
  stack.defer(() => socket.destroy());
  // The watch over QEMU's own end is enough.
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => {
    if (!stack.disposed) log.append(chunk);
  });
}
