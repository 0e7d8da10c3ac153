import { BenchScope } from './bench-scope.ts';
import { Samples } from './samples.ts';
import { SHIM_KINDS, type ShimKind, ShimLab } from './shim-lab.ts';

export interface StartTime {
  readonly exit: Samples;
  readonly firstRpc: Samples;
}

/** `start` of both shims, one after the other in turns, each ended before the next begins. */
export async function measureStart(rounds: number): Promise<Record<ShimKind, StartTime>> {
  await using scope = new BenchScope();
  const lab = await ShimLab.make(scope);
  const times = { vm: newTimes(), runc: newTimes() };
  // The first round only warms the page cache.
  for (let round = 0; round <= rounds; round++) {
    for (const kind of SHIM_KINDS) {
      const shim = await lab.start(kind);
      await lab.end(shim);
      if (round === 0) continue;
      times[kind].exit.add(shim.startMs);
      times[kind].firstRpc.add(shim.firstRpcMs);
    }
  }
  return times;
}

const newTimes = (): StartTime => ({ exit: new Samples(), firstRpc: new Samples() });
