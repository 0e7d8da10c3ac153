import { cpus, loadavg } from 'node:os';
import type { Samples } from '../samples.ts';
import { layOut } from '../table.ts';
import type { CniTime } from './cni-time.ts';
import type { Layout } from './layouts.ts';
import type { Traffic } from './measure-traffic.ts';

export interface NetResults {
  readonly layouts: readonly Layout[];
  readonly traffic: ReadonlyMap<string, Traffic>;
  readonly cni: ReadonlyMap<string, CniTime>;
  /** Load average of one minute before the first measurement. */
  readonly loadBefore: number;
}

/** Ratios of throughput: which layout to which. Those that a quick run leaves out are absent. */
const RATIOS = {
  tap_bridge_vs_raw: ['tap_bridge', 'raw'],
  tap_routed_vs_raw: ['tap_routed', 'raw'],
  netns_vs_raw: ['netns', 'raw'],
  tap_vs_virtlet: ['tap_bridge', 'virtlet'],
  tap_vs_virtlet_with_header: ['tap_bridge', 'virtlet_with_header'],
  vnet_gain: ['tap_bridge_unguarded', 'bridge_without_header'],
  virtlet_vnet_gain: ['virtlet_with_header', 'virtlet'],
  guard_share: ['tap_bridge', 'tap_bridge_unguarded'],
  netns_guard_share: ['netns', 'netns_unguarded'],
  queues_gain: ['tap_bridge_2_queues', 'tap_bridge_2_vcpus_1_queue'],
  tap_2_queues_vs_raw: ['tap_bridge_2_queues', 'raw_2_queues'],
} as const;

/** Flat keys. Mbit/s, µs and ms are medians; a ratio is the geometric mean of those of the kinds of throughput. */
export function figures(results: NetResults): Record<string, number> {
  const { traffic, cni, loadBefore } = results;
  const all: [string, number | undefined][] = [
    ...Object.entries(RATIOS).map(
      ([key, [one, other]]) => [key, ratio(results, one, other)] as [string, number],
    ),
    ['cni_add_ms', cni.get('vm_tap_bridge')?.add.median],
    ['cni_del_ms', cni.get('vm_tap_bridge')?.del.median],
    ...[...cni].flatMap(([name, { add, del }]): [string, number][] => [
      [`cni_${name}_add_ms`, add.median],
      [`cni_${name}_del_ms`, del.median],
    ]),
    ...[...traffic].flatMap(([name, { throughput, p50, p99 }]): [string, number][] => [
      ...[...throughput].map(([kind, rates]): [string, number] => [`${name}_${kind}_mbit`, rates.median]),
      [`${name}_p50_us`, p50.median],
      [`${name}_p99_us`, p99.median],
    ]),
    ['load_before', loadBefore],
    ['load_after', loadavg()[0]],
  ];
  return Object.fromEntries(
    all.flatMap(([key, value]) => (value === undefined ? [] : [[key, Number(value.toFixed(3))]])),
  );
}

export function table(results: NetResults): string {
  const { layouts, traffic, cni, loadBefore } = results;
  const [first] = traffic.values();
  const kinds = [...(first?.throughput.keys() ?? [])];
  const rows = layouts.map(({ name, title }) => {
    const { throughput, p50, p99 } = traffic.get(name) ?? {};
    return [
      title,
      ...kinds.map((kind) => whole(throughput?.get(kind))),
      ratio(results, name, 'raw')?.toFixed(2) ?? '',
      whole(p50),
      whole(p99),
    ];
  });
  const cniRows = [...cni].map(([name, { add, del }]) => [
    name.replaceAll('_', ' '),
    `${add.min.toFixed(1)} / ${add.median.toFixed(1)}`,
    `${del.min.toFixed(1)} / ${del.median.toFixed(1)}`,
  ]);
  const ratios = Object.entries(RATIOS).flatMap(([key, [one, other]]) => {
    const value = ratio(results, one, other);
    return value === undefined ? [] : [[key, value.toFixed(2)]];
  });
  return [
    `${cpus().length} CPUs (${cpus()[0]?.model ?? 'unknown'}), TCG, load ${loadBefore.toFixed(2)} before and ${(loadavg()[0] ?? 0).toFixed(2)} after; medians of ${first?.p50.count ?? 0} rounds`,
    '',
    ...layOut([
      [
        'Mbit/s by sender and connections',
        ...kinds.map((kind) => kind.replace('_', ' ')),
        'to raw',
        'p50 µs',
        'p99 µs',
      ],
      ...rows,
    ]),
    '',
    ...layOut([['ratio', ''], ...ratios]),
    '',
    ...layOut([['CNI plugin, ms (min / median)', 'ADD', 'DEL'], ...cniRows]),
  ].join('\n');
}

function ratio({ traffic }: NetResults, one: string, other: string): number | undefined {
  const [above, below] = [traffic.get(one)?.throughput, traffic.get(other)?.throughput];
  if (above === undefined || below === undefined) return undefined;
  const logs = [...above].map(([kind, rates]) =>
    Math.log(rates.median / (below.get(kind)?.median ?? Number.NaN)),
  );
  return Math.exp(logs.reduce((sum, log) => sum + log, 0) / logs.length);
}

function whole(samples: Samples | undefined): string {
  return samples?.median.toFixed(0) ?? '';
}
