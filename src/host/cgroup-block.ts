import { join } from 'node:path';
import { absentIs } from './absent-is.ts';
import { type Cgroup, controllerDir } from './cgroup-plan.ts';
import type { Host } from './host.ts';

/** What a cgroup's processes have had of block devices, all devices together. */
export interface BlockTraffic {
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly reads: number;
  readonly writes: number;
}

/**
 * Reads cgroup-v2.rst `io.stat`, or cgroup-v1/blkio-controller.rst `blkio.throttle.*`; undefined where neither controller
 * is on or the cgroup is gone. Writes that the page cache does later are counted in v2 only.
 */
export function readCgroupBlock(host: Host, cgroup: Cgroup): BlockTraffic | undefined {
  const place = controllerDir(cgroup, 'blkio');
  if (place === undefined) return undefined;
  return place.hierarchy.version === 2 ? readV2(host, place.dir) : readV1(host, place.dir);
}

function readV2(host: Host, dir: string): BlockTraffic | undefined {
  const text = absentIs(undefined, () => host.readText(join(dir, 'io.stat')));
  if (text === undefined) return undefined;
  const sum = (key: string): number =>
    [...text.matchAll(new RegExp(`\\b${key}=(\\d+)`, 'g'))].reduce(
      (total, [, value]) => total + Number(value),
      0,
    );
  return { readBytes: sum('rbytes'), writtenBytes: sum('wbytes'), reads: sum('rios'), writes: sum('wios') };
}

function readV1(host: Host, dir: string): BlockTraffic | undefined {
  const bytes = absentIs(undefined, () => host.readText(join(dir, 'blkio.throttle.io_service_bytes')));
  const operations = absentIs(undefined, () => host.readText(join(dir, 'blkio.throttle.io_serviced')));
  if (bytes === undefined || operations === undefined) return undefined;
  const sum = (text: string, kind: 'Read' | 'Write'): number =>
    [...text.matchAll(new RegExp(`^\\d+:\\d+ ${kind} (\\d+)$`, 'gm'))].reduce(
      (total, [, value]) => total + Number(value),
      0,
    );
  return {
    readBytes: sum(bytes, 'Read'),
    writtenBytes: sum(bytes, 'Write'),
    reads: sum(operations, 'Read'),
    writes: sum(operations, 'Write'),
  };
}
