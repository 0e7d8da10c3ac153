import { dirname, join } from 'node:path';
import { absentIs } from './absent-is.ts';
import { type Cgroup, type CgroupDir, controllerDir } from './cgroup-plan.ts';
import type { Host } from './host.ts';
import { errnoName } from './linux-errno.ts';

/** "Not limited" of v1 is the largest multiple of the page size below 2^63. */
const NO_LIMIT = 2 ** 62;

/**
 * Limits what the processes of an existing cgroup may use of the node's memory, in bytes (cgroup-v1/memory.rst
 * `memory.limit_in_bytes`, cgroup-v2.rst `memory.max`). More is the kernel's OOM killer's affair, within the cgroup.
 *
 * @returns false where nothing was limited: no memory controller here, or in v1 more in use already than that
 */
export function limitMemory(host: Host, cgroup: Cgroup, bytes: number): boolean {
  const place = controllerDir(cgroup, 'memory');
  if (place === undefined) return false;
  const path = join(place.dir, limitFile(place));
  if (host.inspect(path) === undefined) return false;
  try {
    host.writeText(path, String(bytes));
    return true;
  } catch (error) {
    if (errnoName(error) === 'EBUSY') return false;
    throw error;
  }
}

/** The least limit of the cgroups above, in bytes; undefined where none limits. */
export function memoryBound(host: Host, cgroup: Cgroup): number | undefined {
  const place = controllerDir(cgroup, 'memory');
  if (place === undefined) return undefined;
  const { mountPoint } = place.hierarchy;
  let least = NO_LIMIT;
  for (let dir = dirname(place.dir); dir.startsWith(mountPoint); dir = dirname(dir)) {
    const text = absentIs('', () => host.readText(join(dir, limitFile(place)))).trim();
    if (/^\d+$/.test(text)) least = Math.min(least, Number(text));
    if (dir === '/') break;
  }
  return least < NO_LIMIT ? least : undefined;
}

function limitFile({ hierarchy }: CgroupDir): string {
  return hierarchy.version === 1 ? 'memory.limit_in_bytes' : 'memory.max';
}
