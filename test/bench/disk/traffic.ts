import type { Containerd } from '../../support/containerd.ts';
import { BenchScope } from '../bench-scope.ts';
import { Samples } from '../samples.ts';
import { BASE_MIB, type BenchImage, benchVolume, VOLUME_MIB } from './bench-image.ts';
import { FioGuest, type VolumeModes } from './fio-guest.ts';

export const SIDES = ['ours', 'raw'] as const;
export type Side = (typeof SIDES)[number];

export interface DiskJob {
  readonly kind: 'read' | 'write' | 'volume';
  readonly unit: 'MiB/s' | 'IOPS';
  readonly options: Readonly<Record<string, string | number>>;
}

/** The volume beside the root disk, all of which holds data. */
const volume = { filename: '/dev/vdb', size: `${VOLUME_MIB}M` };
const inBase = { offset: 0, size: `${BASE_MIB}M` };
const behindBase = { offset: `${BASE_MIB}M`, size: '128M' };

/**
 * Reads are of the image's data, through the overlay; writes go to the overlay, where nothing was before. A volume is a raw file,
 * past the host's page cache.
 */
export const JOBS = {
  read_1m_qd16: { kind: 'read', unit: 'MiB/s', options: { rw: 'read', bs: '1M', iodepth: 16, ...inBase } },
  read_4k_qd1: { kind: 'read', unit: 'IOPS', options: { rw: 'randread', bs: '4k', iodepth: 1, ...inBase } },
  read_4k_qd16: { kind: 'read', unit: 'IOPS', options: { rw: 'randread', bs: '4k', iodepth: 16, ...inBase } },
  write_1m_qd16: {
    kind: 'write',
    unit: 'MiB/s',
    options: { rw: 'write', bs: '1M', iodepth: 16, ...behindBase },
  },
  write_4k_qd1: {
    kind: 'write',
    unit: 'IOPS',
    options: { rw: 'randwrite', bs: '4k', iodepth: 1, ...behindBase },
  },
  write_4k_qd16: {
    kind: 'write',
    unit: 'IOPS',
    options: { rw: 'randwrite', bs: '4k', iodepth: 16, ...behindBase },
  },
  write_4k_fsync: {
    kind: 'write',
    unit: 'IOPS',
    options: { rw: 'randwrite', bs: '4k', iodepth: 1, fsync: 1, ...behindBase },
  },
  volume_read_4k_qd16: {
    kind: 'volume',
    unit: 'IOPS',
    options: { rw: 'randread', bs: '4k', iodepth: 16, ...volume },
  },
  volume_write_1m_qd16: {
    kind: 'volume',
    unit: 'MiB/s',
    options: { rw: 'write', bs: '1M', iodepth: 16, ...volume },
  },
  volume_write_4k_qd16: {
    kind: 'volume',
    unit: 'IOPS',
    options: { rw: 'randwrite', bs: '4k', iodepth: 16, ...volume },
  },
} as const satisfies Readonly<Record<string, DiskJob>>;
export type JobName = keyof typeof JOBS;
export const JOB_NAMES = Object.keys(JOBS) as JobName[];

export interface DiskTraffic {
  /** How the volume was opened, by the product's choice, on both sides. */
  readonly volumeModes: VolumeModes;
  readonly samples: Readonly<Record<JobName, Readonly<Record<Side, Samples>>>>;
}

export interface TrafficPlan {
  readonly rounds: number;
  /** Of each job. */
  readonly seconds: number;
}

/** Both guests run all the time and are measured in turns, so that what else the machine does meets both alike. */
export async function measureTraffic(
  containerd: Containerd,
  directory: string,
  image: BenchImage,
  { rounds, seconds }: TrafficPlan,
): Promise<DiskTraffic> {
  await using scope = new BenchScope();
  const [ownVolume, rawVolume] = SIDES.map((side) => benchVolume(directory, side)) as [string, string];
  const { guest: ours, volumeModes } = await FioGuest.ours(scope, containerd, image, ownVolume);
  const raw = await FioGuest.raw(scope, directory, image, { path: rawVolume, ...volumeModes });
  const guests = { ours, raw };
  const traffic = Object.fromEntries(
    JOB_NAMES.map((name) => [name, { ours: new Samples(), raw: new Samples() }]),
  ) as Record<JobName, Record<Side, Samples>>;
  for (let round = 0; round < rounds; round++) {
    for (const name of JOB_NAMES) {
      const { unit, options } = JOBS[name];
      // Who comes first is changed, in case the first of two pays for something.
      for (const side of round % 2 === 0 ? SIDES : SIDES.toReversed()) {
        const { kib, iops } = await guests[side].fio({ ...options, runtime: seconds });
        traffic[name][side].add(unit === 'IOPS' ? iops : kib / 1024);
      }
    }
  }
  return { volumeModes, samples: traffic };
}
