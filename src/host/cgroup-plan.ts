import { join } from 'node:path';
import { VmError } from '../core/errors.ts';
import type { CgroupLayout, Hierarchy } from './cgroup-layout.ts';

/** One cgroup by its path, and the directories that it is in the mounted hierarchies. A plan: nothing exists yet. */
export interface Cgroup {
  /** From the root of every hierarchy, such as `/kubepods/burstable/podUID/ID`; with the layout it gives `dirs`. */
  readonly path: string;
  readonly dirs: readonly CgroupDir[];
}

export interface CgroupDir {
  readonly hierarchy: Hierarchy;
  readonly dir: string;
}

/**
 * The cgroup of a container. `cgroupsPath` is OCI's `linux.cgroupsPath`: a path (`/a/b`; a relative one lies under
 * `/vmshim`), or systemd's form `SLICE:PREFIX:NAME` as runc documents it (docs/systemd.md). Without one it is
 * `/vmshim/<fallbackName>`. Throws InvalidArgument for a path that would leave the hierarchy or be its root.
 *
 * Where systemd is the init and there is v2 alone, systemd's form is a leaf of the scope that it names (`scopePath`).
 */
export function planCgroup(
  layout: CgroupLayout,
  cgroupsPath: string | undefined,
  fallbackName: string,
): Cgroup {
  const path = cgroupPath(layout, cgroupsPath, fallbackName);
  return {
    path,
    dirs: layout.hierarchies.map((hierarchy) => ({ hierarchy, dir: join(hierarchy.mountPoint, path) })),
  };
}

/** The directory in which `controller` is set: the v1 hierarchy that has it, else the v2 one. */
export function controllerDir(cgroup: Cgroup, controller: string): CgroupDir | undefined {
  const v1 = cgroup.dirs.filter(({ hierarchy }) => hierarchy.version === 1);
  const own = v1.find(({ hierarchy }) => hierarchy.controllers.includes(controller));
  return own ?? cgroup.dirs.find(({ hierarchy }) => hierarchy.version === 2);
}

/**
 * The path of the scope whose leaf for a VM this is; undefined for any other. A path alone tells it, and records have no more:
 * the leaf has a name of ours, and everything above a scope is a slice.
 */
export function scopePath(path: string): string | undefined {
  const [leaf, scope, ...slices] = path.split('/').slice(1).reverse();
  const isOurs =
    leaf === LEAF && scope?.endsWith('.scope') === true && slices.every((slice) => slice.endsWith('.slice'));
  return isOurs ? path.slice(0, -LEAF.length - 1) : undefined;
}

const LEAF = 'vm';

function cgroupPath(layout: CgroupLayout, cgroupsPath: string | undefined, fallbackName: string): string {
  if (cgroupsPath === undefined || cgroupsPath === '')
    return `/vmshim/${component(fallbackName, fallbackName)}`;
  if (!cgroupsPath.includes('/') && cgroupsPath.includes(':')) {
    const path = systemdPath(cgroupsPath);
    return layout.systemd && layout.kind === 'v2' && path.endsWith('.scope') ? `${path}/${LEAF}` : path;
  }
  const parts = cgroupsPath.split('/').filter((part) => part !== '');
  if (parts.length === 0) throw wrong(cgroupsPath, 'names the root of the hierarchy');
  for (const part of parts) component(part, cgroupsPath);
  return `${cgroupsPath.startsWith('/') ? '' : '/vmshim'}/${parts.join('/')}`;
}

function systemdPath(cgroupsPath: string): string {
  const [slice, prefix, name, ...rest] = cgroupsPath.split(':');
  if (slice === undefined || prefix === undefined || name === undefined || name === '' || rest.length > 0) {
    throw wrong(cgroupsPath, 'is not SLICE:PREFIX:NAME');
  }
  const unit = name.endsWith('.slice') ? name : `${prefix === '' ? '' : `${prefix}-`}${name}.scope`;
  return `${slicePath(slice === '' ? 'system.slice' : slice, cgroupsPath)}/${component(unit, cgroupsPath)}`;
}

/** systemd.slice(5): a dash in the name is a step of the tree, `a-b.slice` lies in `a.slice`; `-.slice` is the root. */
function slicePath(slice: string, cgroupsPath: string): string {
  if (slice === '-.slice') return '';
  const name = /^(.+)\.slice$/.exec(component(slice, cgroupsPath))?.[1];
  if (name === undefined)
    throw wrong(cgroupsPath, `has the slice "${slice}", whose name must end with .slice`);
  const steps = name.split('-');
  if (steps.includes(''))
    throw wrong(cgroupsPath, `has the slice "${slice}" with an empty part between dashes`);
  return steps.map((_, i) => `/${steps.slice(0, i + 1).join('-')}.slice`).join('');
}

function component(name: string, cgroupsPath: string): string {
  if (name === '' || name === '.' || name === '..' || name.length > 255 || /[/\0\n]/.test(name)) {
    throw wrong(cgroupsPath, `has "${name}" as part of the path`);
  }
  return name;
}

function wrong(cgroupsPath: string, why: string): VmError {
  return new VmError(
    'InvalidArgument',
    `linux.cgroupsPath "${cgroupsPath}" ${why}; give a path such as /pods/ID or system.slice:vm:ID`,
  );
}
