import { writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import type { FirstByte } from './first-byte.ts';
import type { Memory } from './memory.ts';
import type { Samples } from './samples.ts';
import type { ShimKind } from './shim-lab.ts';
import type { StartTime } from './start-time.ts';
import { layOut } from './table.ts';

export interface Results {
  readonly start: Record<ShimKind, StartTime>;
  readonly memory: Record<ShimKind, { one: Memory; many: Memory }>;
  readonly state: Record<ShimKind, Samples>;
  readonly firstByte: FirstByte;
  /** Load average of one minute before the first measurement. */
  readonly loadBefore: number;
}

/** The same as the table, as flat keys. Times and ratios are of medians, memory is the mean of all shims. */
export function figures({ start, memory, state, firstByte, loadBefore }: Results): Record<string, number> {
  const overRaw = firstByte.vm.median - firstByte.raw.median;
  const all = {
    start_exit_ratio: start.vm.exit.median / start.runc.exit.median,
    start_exit_ms: start.vm.exit.median,
    start_exit_runc_ms: start.runc.exit.median,
    first_rpc_ms: start.vm.firstRpc.median,
    first_rpc_runc_ms: start.runc.firstRpc.median,
    rss1_mb: memory.vm.one.rss.mean,
    pss1_mb: memory.vm.one.pss.mean,
    private1_mb: memory.vm.one.private.mean,
    pss20_mb: memory.vm.many.pss.mean,
    private20_mb: memory.vm.many.private.mean,
    pss20_runc_mb: memory.runc.many.pss.mean,
    private20_runc_mb: memory.runc.many.private.mean,
    rpc_p50_us: state.vm.median,
    rpc_p50_runc_us: state.runc.median,
    rpc_p50_ratio: state.vm.median / state.runc.median,
    rpc_p99_us: state.vm.quantile(0.99),
    rpc_p99_runc_us: state.runc.quantile(0.99),
    rpc_p99_ratio: state.vm.quantile(0.99) / state.runc.quantile(0.99),
    guest_first_byte_ms: firstByte.vm.median,
    guest_raw_ms: firstByte.raw.median,
    runc_first_byte_ms: firstByte.runc.median,
    guest_over_raw_ms: overRaw,
    guest_over_raw_ratio: firstByte.vm.median / firstByte.raw.median,
    guest_over_raw_and_runc_ms: overRaw - firstByte.runc.median,
    load_before: loadBefore,
    load_after: loadavg()[0] ?? 0,
  };
  return Object.fromEntries(Object.entries(all).map(([key, value]) => [key, Number(value.toFixed(3))]));
}

export function writeJson(path: string, results: Results): void {
  writeFileSync(path, `${JSON.stringify(figures(results), null, 2)}\n`);
}

type Row = readonly [what: string, ours: string, others: string, ratio: string, aim: string];

export function table(results: Results): string {
  const { start, memory, state, firstByte, loadBefore } = results;
  const rows: Row[] = [
    ['', 'vm', 'runc', 'ratio', 'aim'],
    compare('start: exec to exit', 'ms', start.vm.exit, start.runc.exit, 'ratio 2'),
    compare('start: exec to first answered call', 'ms', start.vm.firstRpc, start.runc.firstRpc, '60 ms'),
    ...(['rss', 'pss', 'private'] as const).map((kind) =>
      megabytes(`${kind} of one shim`, memory, 'one', kind),
    ),
    megabytes(`pss per shim of ${memory.vm.many.pss.count}`, memory, 'many', 'pss', '12 MB'),
    megabytes(`private per shim of ${memory.vm.many.pss.count}`, memory, 'many', 'private'),
    quantile('State, p50', 0.5, state, 'ratio 1.3'),
    quantile('State, p99', 0.99, state),
    compare('ctr run to first byte', 'ms', firstByte.vm, firstByte.runc),
  ];
  const { guest_over_raw_ms: over = 0, guest_over_raw_ratio: ratio = 0 } = figures(results);
  const limit = firstByte.runc.median + 100;
  return [
    `${cpus().length} CPUs (${cpus()[0]?.model ?? 'unknown'}), load ${loadBefore.toFixed(2)} before and ${(loadavg()[0] ?? 0).toFixed(2)} after; min / median; memory is the mean`,
    ...layOut(rows),
    `the same QEMU alone, exec to first byte: ${pair(firstByte.raw)} ms; ctr run takes ${over.toFixed(0)} ms more (${ratio.toFixed(2)} times), aim ${limit.toFixed(0)} ms (runc's ctr run + 100)`,
  ].join('\n');
}

function compare(what: string, unit: string, vm: Samples, runc: Samples, aim = ''): Row {
  return [what, `${pair(vm)} ${unit}`, `${pair(runc)} ${unit}`, (vm.median / runc.median).toFixed(2), aim];
}

function megabytes(
  what: string,
  memory: Results['memory'],
  count: 'one' | 'many',
  kind: keyof Memory,
  aim = '',
): Row {
  const [vm, runc] = [memory.vm[count][kind].mean, memory.runc[count][kind].mean];
  return [what, `${vm.toFixed(1)} MB`, `${runc.toFixed(1)} MB`, (vm / runc).toFixed(2), aim];
}

function quantile(what: string, q: number, state: Results['state'], aim = ''): Row {
  const [vm, runc] = [state.vm.quantile(q), state.runc.quantile(q)];
  return [what, `${vm.toFixed(0)} µs`, `${runc.toFixed(0)} µs`, (vm / runc).toFixed(2), aim];
}

const pair = (samples: Samples): string => `${samples.min.toFixed(1)} / ${samples.median.toFixed(1)}`;
