import { dirname, join } from 'node:path';
import { parseCpuList } from '../core/cpu-list.ts';
import { absentIs } from './absent-is.ts';
import { type Cgroup, controllerDir } from './cgroup-plan.ts';
import type { Host } from './host.ts';

/** CPUs and memory nodes that a cgroup can be given; undefined where nothing limits them. */
export interface CpusetBounds {
  readonly cpus: readonly number[] | undefined;
  readonly memoryNodes: readonly number[] | undefined;
}

/** What the nearest existing cgroup above has in effect (cpuset(7); cgroup-v2.rst "Cpuset Interface Files"). */
export function readCpusetBounds(host: Host, cgroup: Cgroup): CpusetBounds {
  const place = controllerDir(cgroup, 'cpuset');
  if (place === undefined) return { cpus: undefined, memoryNodes: undefined };
  const { hierarchy } = place;
  const files =
    hierarchy.version === 1
      ? (['cpuset.effective_cpus', 'cpuset.effective_mems'] as const)
      : (['cpuset.cpus.effective', 'cpuset.mems.effective'] as const);
  const read = (file: string): readonly number[] | undefined => {
    for (let dir = dirname(place.dir); dir.startsWith(hierarchy.mountPoint); dir = dirname(dir)) {
      const list = parseCpuList(absentIs('', () => host.readText(join(dir, file))).trim());
      if (list !== undefined && list.length > 0) return list;
      if (dir === '/') break;
    }
    return undefined;
  };
  return { cpus: read(files[0]), memoryNodes: read(files[1]) };
}
