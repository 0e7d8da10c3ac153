import { BenchScope } from './bench-scope.ts';
import { Samples } from './samples.ts';
import { type BenchShim, SHIM_KINDS, type ShimKind, ShimLab } from './shim-lab.ts';

/** Microseconds of one State call after the other on one connection, for a created task; rounds take turns. */
export async function measureState(rounds: number, calls: number): Promise<Record<ShimKind, Samples>> {
  await using scope = new BenchScope();
  const lab = await ShimLab.make(scope);
  const shims: Record<ShimKind, BenchShim> = { vm: await lab.start('vm'), runc: await lab.start('runc') };
  try {
    for (const kind of SHIM_KINDS) await lab.create(shims[kind]);
    const times = { vm: new Samples(), runc: new Samples() };
    // The first round is for both ends to get warm.
    for (let round = 0; round <= rounds; round++) {
      for (const kind of SHIM_KINDS) {
        const { task, id } = shims[kind];
        for (let call = 0; call < calls; call++) {
          const began = performance.now();
          await task.state({ id });
          if (round > 0) times[kind].add((performance.now() - began) * 1000);
        }
      }
    }
    return times;
  } finally {
    for (const kind of SHIM_KINDS) await lab.end(shims[kind]);
  }
}
