import type { Host } from '../host/host.ts';
import { absentIs } from '../host/absent-is.ts';
import { errnoName, toVmError } from '../host/linux-errno.ts';
import type { Native } from '../host/native.ts';
import type { VcpuPins } from '../numa/numa-plan.ts';
import { type QmpExecutor, queryCpusFast, type VcpuThread } from '../qemu/qmp-commands.ts';

/** QEMU's threads and where each belongs; pinned again whenever a change of the cpuset has undone it. */
export interface PinnedThreads {
  /** @param within the CPUs of the cpuset now; a thread none of whose CPUs are left runs on all of them. */
  pin(within: readonly number[] | undefined): void;
}

export interface PinTarget {
  readonly host: Host;
  readonly native: Native;
  readonly pid: number;
  readonly pins: VcpuPins;
}

/** Asks QEMU, which has not let the guest run yet, for its vCPU threads. */
export async function findThreads(
  target: PinTarget,
  qmp: QmpExecutor,
  signal: AbortSignal,
): Promise<PinnedThreads> {
  const vcpus = await queryCpusFast(qmp, { signal });
  return { pin: (within) => pinAll(target, vcpus, within) };
}

function pinAll(
  { host, native, pid, pins }: PinTarget,
  vcpus: readonly VcpuThread[],
  within: readonly number[] | undefined,
): void {
  const wanted = new Map<number, number[]>();
  // One thread may be several vCPUs, as with TCG's round robin.
  for (const { cpuIndex, threadId } of vcpus) {
    wanted.set(threadId, [...(wanted.get(threadId) ?? []), ...(pins.vcpus[cpuIndex] ?? [])]);
  }
  const { emulator } = pins;
  if (emulator !== undefined) {
    // A thread that starts meanwhile inherits from the one that starts it, and those of before are in the list.
    const threads = absentIs<string[]>([], () => host.listDir(`/proc/${pid}/task`)).map(Number);
    for (const tid of threads) if (!wanted.has(tid)) wanted.set(tid, [...emulator]);
  }
  for (const [tid, cpus] of wanted) {
    const left = cpus.filter((cpu) => within?.includes(cpu) ?? true);
    if (left.length > 0) setAffinity(native, tid, left);
  }
}

function setAffinity(native: Native, tid: number, cpus: readonly number[]): void {
  try {
    native.schedSetaffinity(tid, cpus);
  } catch (error) {
    // A worker thread has ended since it was listed.
    if (errnoName(error) !== 'ESRCH') throw toVmError(error, `pin thread ${tid} to CPUs ${cpus.join()}`);
  }
}
