import { VmError } from '../core/errors.ts';
import { isJsonObject, type JsonObject } from './qmp-codec.ts';
import { oddReply } from './odd-reply.ts';

/** What these commands need of `QmpClient`. */
export interface QmpExecutor {
  execute(command: string, args?: JsonObject, options?: QmpCallOptions): Promise<unknown>;
}

export interface QmpCallOptions {
  readonly signal?: AbortSignal;
}

/** `RunState` of QEMU's `qapi/run-state.json`. */
export type RunState =
  | 'prelaunch'
  | 'running'
  | 'paused'
  | 'shutdown'
  | 'guest-panicked'
  | 'internal-error'
  | 'io-error'
  | 'watchdog'
  | 'suspended'
  | 'inmigrate'
  | 'postmigrate'
  | (string & {});

export interface VmStatus {
  readonly status: RunState;
  /** The guest's CPUs are running. */
  readonly running: boolean;
}

export interface VcpuThread {
  readonly cpuIndex: number;
  /** Thread id on the host, for pinning. */
  readonly threadId: number;
}

export async function queryStatus(qmp: QmpExecutor, options?: QmpCallOptions): Promise<VmStatus> {
  const reply = await query(qmp, 'query-status', options);
  const { status, running } = reply;
  if (typeof status !== 'string' || typeof running !== 'boolean') throw oddReply('query-status', reply);
  return { status, running };
}

/** Lets the guest run. A guest that powered itself off needs `systemReset` first: QEMU refuses. */
export async function cont(qmp: QmpExecutor, options?: QmpCallOptions): Promise<void> {
  await qmp.execute('cont', undefined, options);
}

/** Pauses the guest. */
export async function stop(qmp: QmpExecutor, options?: QmpCallOptions): Promise<void> {
  await qmp.execute('stop', undefined, options);
}

/** Presses the ACPI power button. It returns at once; a guest may take it, take it later or never. */
export async function systemPowerdown(qmp: QmpExecutor, options?: QmpCallOptions): Promise<void> {
  await qmp.execute('system_powerdown', undefined, options);
}

export async function systemReset(qmp: QmpExecutor, options?: QmpCallOptions): Promise<void> {
  await qmp.execute('system_reset', undefined, options);
}

/** Ends QEMU as pulling the plug does. QEMU that is gone before it has answered has obeyed. */
export async function quit(qmp: QmpExecutor, options?: QmpCallOptions): Promise<void> {
  try {
    await qmp.execute('quit', undefined, options);
  } catch (error) {
    if (!VmError.is(error, 'Unavailable')) throw error;
  }
}

export async function queryCpusFast(qmp: QmpExecutor, options?: QmpCallOptions): Promise<VcpuThread[]> {
  const reply = await qmp.execute('query-cpus-fast', undefined, options);
  if (!Array.isArray(reply)) throw oddReply('query-cpus-fast', reply);
  return reply.map((cpu: unknown) => {
    if (!isJsonObject(cpu)) throw oddReply('query-cpus-fast', reply);
    const { 'cpu-index': cpuIndex, 'thread-id': threadId } = cpu;
    if (typeof cpuIndex !== 'number' || typeof threadId !== 'number')
      throw oddReply('query-cpus-fast', reply);
    return { cpuIndex, threadId };
  });
}

/** Whether this guest runs on KVM, and whether QEMU could. */
export async function queryKvm(
  qmp: QmpExecutor,
  options?: QmpCallOptions,
): Promise<{ readonly enabled: boolean; readonly present: boolean }> {
  const reply = await query(qmp, 'query-kvm', options);
  const { enabled, present } = reply;
  if (typeof enabled !== 'boolean' || typeof present !== 'boolean') throw oddReply('query-kvm', reply);
  return { enabled, present };
}

/** Asks the guest to shrink or grow to `bytes` of RAM; BALLOON_CHANGE tells how far it came. */
export async function balloon(qmp: QmpExecutor, bytes: number, options?: QmpCallOptions): Promise<void> {
  await qmp.execute('balloon', { value: bytes }, options);
}

/** The guest's RAM in bytes without what the balloon took. Throws FailedPrecondition without a balloon device. */
export async function queryBalloon(qmp: QmpExecutor, options?: QmpCallOptions): Promise<number> {
  const reply = await query(qmp, 'query-balloon', options);
  if (typeof reply['actual'] !== 'number') throw oddReply('query-balloon', reply);
  return reply['actual'];
}

export async function injectNmi(qmp: QmpExecutor, options?: QmpCallOptions): Promise<void> {
  await qmp.execute('inject-nmi', undefined, options);
}

/** Writes the screen as PNG to a path that QEMU itself can open, such as `/dev/fdset/<n>`. */
export async function screendump(qmp: QmpExecutor, path: string, options?: QmpCallOptions): Promise<void> {
  await qmp.execute('screendump', { filename: path, format: 'png' }, options);
}

async function query(qmp: QmpExecutor, command: string, options?: QmpCallOptions): Promise<JsonObject> {
  const reply = await qmp.execute(command, undefined, options);
  if (!isJsonObject(reply)) throw oddReply(command, reply);
  return reply;
}
