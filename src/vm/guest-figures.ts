import { VmError } from '../core/errors.ts';
import { absentIs } from '../host/absent-is.ts';
import type { Host } from '../host/host.ts';
import { type BlockFigures, queryBlockFigures } from '../qemu/block-figures.ts';
import { askGuestMemory, type GuestMemory } from '../qemu/balloon-stats.ts';
import { queryBalloon, queryCpusFast, type QmpExecutor } from '../qemu/qmp-commands.ts';

/** What a guest has used: as QEMU and the kernel count it, and its memory as it says itself. */
export interface GuestFigures {
  /** RAM that the balloon leaves it; undefined without one. */
  readonly balloonBytes: number | undefined;
  /** Undefined for a guest that does not say. */
  readonly memory: GuestMemory | undefined;
  readonly disks: readonly BlockFigures[];
  readonly vcpus: readonly VcpuFigures[];
}

export interface VcpuFigures {
  readonly index: number;
  /** On a CPU of the node. */
  readonly runNs: number;
  /** Ready for one, and waiting: what the guest sees as stolen. */
  readonly waitNs: number;
}

export async function readGuestFigures(
  host: Host,
  qemu: { readonly pid: number; readonly qmp: QmpExecutor },
  signal: AbortSignal,
): Promise<GuestFigures> {
  const { pid, qmp } = qemu;
  const [balloonBytes, memory, disks, vcpus] = await Promise.all([
    queryBalloon(qmp, { signal }).catch(noBalloon),
    askGuestMemory(qmp, { signal }),
    queryBlockFigures(qmp, { signal }),
    queryCpusFast(qmp, { signal }),
  ]);
  return {
    balloonBytes,
    memory,
    disks,
    vcpus: vcpus.map(({ cpuIndex, threadId }) => ({
      index: cpuIndex,
      ...parseSchedstat(absentIs('', () => host.readText(`/proc/${pid}/task/${threadId}/schedstat`))),
    })),
  };
}

/** Nanoseconds on a CPU and in its queue (the kernel's Documentation/scheduler/sched-stats.rst); 0 where it does not count. */
export function parseSchedstat(text: string): { runNs: number; waitNs: number } {
  const [, run = '0', wait = '0'] = /^(\d+) (\d+) \d+\s*$/.exec(text) ?? [];
  return { runNs: Number(run), waitNs: Number(wait) };
}

function noBalloon(error: unknown): undefined {
  if (!VmError.is(error, 'FailedPrecondition')) throw error;
  return undefined;
}
