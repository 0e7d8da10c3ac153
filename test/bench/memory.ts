import { readFileSync } from 'node:fs';
import { BenchScope } from './bench-scope.ts';
import { Samples } from './samples.ts';
import { type BenchShim, type ShimKind, ShimLab } from './shim-lab.ts';

/** Of one shim process, in MB of 10^6 bytes. QEMU, runc's container and everything else are not in it. */
export interface Memory {
  readonly rss: Samples;
  readonly pss: Samples;
  /** Private_Clean + Private_Dirty. */
  readonly private: Samples;
}

/** Memory of shims with one created task each, after their first task and at `many` of them. */
export async function measureMemory(many: number): Promise<Record<ShimKind, { one: Memory; many: Memory }>> {
  await using scope = new BenchScope();
  const lab = await ShimLab.make(scope);
  const measure = async (kind: ShimKind): Promise<{ one: Memory; many: Memory }> => {
    const shims: BenchShim[] = [];
    try {
      const one = await grow(lab, kind, shims, 1);
      return { one, many: await grow(lab, kind, shims, many) };
    } finally {
      for (const shim of shims) await lab.end(shim);
    }
  };
  return { vm: await measure('vm'), runc: await measure('runc') };
}

async function grow(lab: ShimLab, kind: ShimKind, shims: BenchShim[], count: number): Promise<Memory> {
  while (shims.length < count) {
    const shim = await lab.start(kind);
    shims.push(shim);
    await lab.create(shim);
    await shim.task.state({ id: shim.id });
  }
  const memory = { rss: new Samples(), pss: new Samples(), private: new Samples() };
  for (const { pid } of shims) {
    const read = rollup(pid);
    memory.rss.add(read('Rss'));
    memory.pss.add(read('Pss'));
    memory.private.add(read('Private_Clean') + read('Private_Dirty'));
  }
  return memory;
}

/** Fields of proc_pid_smaps_rollup(5) in MB. */
function rollup(pid: number): (field: string) => number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
  return (field) => (Number(new RegExp(`^${field}: +(\\d+) kB`, 'm').exec(text)?.[1]) * 1024) / 1e6;
}
