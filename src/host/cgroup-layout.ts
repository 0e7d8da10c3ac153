import { join } from 'node:path';
import { VmError } from '../core/errors.ts';
import type { Host } from './host.ts';
import { type Mount, parseMountinfo } from './mountinfo.ts';

/** One mounted cgroup hierarchy. */
export interface Hierarchy {
  readonly version: 1 | 2;
  /** v1: the controllers bound to it, with `name=systemd` for a named one. v2: empty, they are enabled per cgroup. */
  readonly controllers: readonly string[];
  readonly mountPoint: string;
}

/**
 * Which hierarchies this host has (cgroups(7)). `hybrid` is v1 with a v2 hierarchy beside it: resources are set in v1,
 * v2 knows the processes only.
 */
export interface CgroupLayout {
  readonly kind: 'v1' | 'hybrid' | 'v2';
  readonly hierarchies: readonly Hierarchy[];
  /** Whether systemd is the init, and so the one that makes cgroups in its slices. */
  readonly systemd: boolean;
}

/** Reads the layout of our own mount namespace. Throws FailedPrecondition when no cgroup hierarchy is mounted. */
export function detectCgroupLayout(host: Host): CgroupLayout {
  return { ...parseCgroupLayout(host.readText('/proc/self/mountinfo')), systemd: isSystemdBooted(host) };
}

/** sd_booted(3). */
export function isSystemdBooted(host: Host): boolean {
  return host.inspect('/run/systemd/system')?.kind === 'directory';
}

/** The layout that the text of a mountinfo file states, without systemd; `root` is put before every mount point. */
export function parseCgroupLayout(mountinfo: string, root = '/'): CgroupLayout {
  const mounts = parseMountinfo(mountinfo);
  const found = new Map<string, { mount: Mount; hierarchy: Hierarchy }>();
  for (const mount of mounts) {
    const hierarchy = toHierarchy(mount, root);
    if (hierarchy === undefined) continue;
    // The same hierarchy can be mounted again, even only a part of it: the first mount of the whole is the one meant.
    const key = hierarchy.version === 2 ? 'v2' : hierarchy.controllers.join();
    const known = found.get(key);
    if (known === undefined || (known.mount.root !== '/' && mount.root === '/'))
      found.set(key, { mount, hierarchy });
  }
  const hierarchies = [...found.values()].map(({ hierarchy }) => hierarchy);
  const v1 = hierarchies.some(({ version }) => version === 1);
  const v2 = hierarchies.some(({ version }) => version === 2);
  if (!v1 && !v2) {
    throw new VmError(
      'FailedPrecondition',
      'no cgroup hierarchy is mounted; mount cgroup2 on /sys/fs/cgroup',
    );
  }
  return { kind: v1 ? (v2 ? 'hybrid' : 'v1') : 'v2', hierarchies, systemd: false };
}

function toHierarchy(mount: Mount, root: string): Hierarchy | undefined {
  const mountPoint = join(root, mount.mountPoint);
  if (mount.fsType === 'cgroup2') return { version: 2, controllers: [], mountPoint };
  if (mount.fsType !== 'cgroup') return undefined;
  const controllers = mount.superOptions.filter(
    (option) => controllerNames.has(option) || option.startsWith('name='),
  );
  return controllers.length === 0 ? undefined : { version: 1, controllers, mountPoint };
}

/** Controllers of v1; the other options of such a mount (rw, xattr, release_agent …) are no controllers. */
const controllerNames = new Set([
  'blkio',
  'cpu',
  'cpuacct',
  'cpuset',
  'devices',
  'freezer',
  'hugetlb',
  'memory',
  'misc',
  'net_cls',
  'net_prio',
  'perf_event',
  'pids',
  'rdma',
]);
