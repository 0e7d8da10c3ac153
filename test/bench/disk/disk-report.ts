import { cpus, loadavg } from 'node:os';
import { layOut } from '../table.ts';
import type { PrepareTime } from './prepare-time.ts';
import { type DiskJob, type DiskTraffic, JOB_NAMES, type JobName, JOBS } from './traffic.ts';

export interface DiskResults {
  readonly traffic: DiskTraffic;
  readonly prepare: PrepareTime;
  /** Load average of one minute before the first measurement. */
  readonly loadBefore: number;
}

/** Flat keys. All are medians; a ratio of several jobs is the geometric mean of theirs. */
export function figures({ traffic, prepare, loadBefore }: DiskResults): Record<string, number> {
  const all = {
    disk_read_vs_raw: ratioOf(traffic, 'read'),
    disk_write_vs_raw: ratioOf(traffic, 'write'),
    volume_vs_raw: ratioOf(traffic, 'volume'),
    prepare_ms: prepare.both.median,
    prepare_disk_ms: prepare.disk.median,
    prepare_drive_ms: prepare.drive.median,
    ...Object.fromEntries(
      JOB_NAMES.flatMap((name) => {
        const { ours, raw } = traffic.samples[name];
        const unit = JOBS[name].unit === 'IOPS' ? 'iops' : 'mib';
        return [
          [`${name}_${unit}`, ours.median],
          [`${name}_raw_${unit}`, raw.median],
          [`${name}_vs_raw`, ratio(traffic, name)],
        ];
      }),
    ),
    load_before: loadBefore,
    load_after: loadavg()[0] ?? 0,
  };
  return Object.fromEntries(Object.entries(all).map(([key, value]) => [key, Number(value.toFixed(3))]));
}

export function table(results: DiskResults): string {
  const { traffic, prepare, loadBefore } = results;
  const rows = JOB_NAMES.map((name) => {
    const { ours, raw } = traffic.samples[name];
    return [
      `${name.replaceAll('_', ' ')}, ${JOBS[name].unit}`,
      ours.median.toFixed(0),
      raw.median.toFixed(0),
      ratio(traffic, name).toFixed(2),
    ];
  });
  const { disk, drive, both } = prepare;
  return [
    `${cpus().length} CPUs (${cpus()[0]?.model ?? 'unknown'}), TCG, load ${loadBefore.toFixed(2)} before and ${(loadavg()[0] ?? 0).toFixed(2)} after; medians of ${traffic.samples.read_1m_qd16.ours.count} rounds`,
    '',
    ...layOut([['fio in the guest', 'ours', 'QEMU by hand', 'ratio'], ...rows]),
    `reading ${ratioOf(traffic, 'read').toFixed(2)}, writing ${ratioOf(traffic, 'write').toFixed(2)} of QEMU by hand (geometric means), aim 1.00`,
    `the volume ${ratioOf(traffic, 'volume').toFixed(2)}, with cache=${traffic.volumeModes.cache} and aio=${traffic.volumeModes.aio} on both sides`,
    '',
    ...layOut([
      ['of a start, ms (min / median)', ''],
      ['root disk', `${disk.min.toFixed(1)} / ${disk.median.toFixed(1)}`],
      ['guest data drive', `${drive.min.toFixed(1)} / ${drive.median.toFixed(1)}`],
      ['both, aim 30', `${both.min.toFixed(1)} / ${both.median.toFixed(1)}`],
    ]),
  ].join('\n');
}

function ratio(traffic: DiskTraffic, name: JobName): number {
  return traffic.samples[name].ours.median / traffic.samples[name].raw.median;
}

function ratioOf(traffic: DiskTraffic, kind: DiskJob['kind']): number {
  const logs = JOB_NAMES.filter((name) => JOBS[name].kind === kind).map((name) =>
    Math.log(ratio(traffic, name)),
  );
  return Math.exp(logs.reduce((sum, log) => sum + log, 0) / logs.length);
}
