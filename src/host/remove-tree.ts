import {
  type Stats,
  lstatSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmdirSync,
  unlinkSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { VmError } from '../core/errors.ts';
import { errnoName, withErrno } from './linux-errno.ts';
import { parseMountinfo } from './mountinfo.ts';

/**
 * Removes a file or a directory with everything in it; absent is fine. Symbolic links are removed, never followed. A
 * mount in the tree stays as it is, and the call fails with FailedPrecondition after the rest is gone: a volume that is
 * still mounted below a VM's directory must not be emptied.
 */
export function removeTree(path: string): void {
  const parent = tolerateAbsent(`inspect ${path}`, () => realpathSync(dirname(path)));
  if (parent === undefined) return;
  const top = join(parent, basename(path));
  const info = stat(top);
  if (info === undefined) return;

  const left: string[] = [];
  removeWithin(top, info, { device: info.dev, mountPoints: mountPoints(), left });
  if (left.length > 0) {
    throw new VmError(
      'FailedPrecondition',
      `cannot remove ${path}: something is mounted on ${left.join(', ')}; unmount it first`,
    );
  }
}

/** Both say "mount": the device number also for one that came after we read the table, the table for a bind mount. */
interface Limits {
  readonly device: number;
  readonly mountPoints: ReadonlySet<string>;
  readonly left: string[];
}

/** False when something had to stay. */
function removeWithin(path: string, info: Stats, limits: Limits): boolean {
  if (info.dev !== limits.device || limits.mountPoints.has(path)) {
    limits.left.push(path);
    return false;
  }
  if (!info.isDirectory()) {
    tolerateAbsent(`remove ${path}`, () => unlinkSync(path));
    return true;
  }
  let empty = true;
  for (const name of tolerateAbsent(`list ${path}`, () => readdirSync(path)) ?? []) {
    const child = join(path, name);
    const childInfo = stat(child);
    if (childInfo !== undefined) empty = removeWithin(child, childInfo, limits) && empty;
  }
  if (empty) tolerateAbsent(`remove ${path}`, () => rmdirSync(path));
  return empty;
}

function mountPoints(): ReadonlySet<string> {
  const text = withErrno('read /proc/self/mountinfo', () => readFileSync('/proc/self/mountinfo', 'utf8'));
  return new Set(parseMountinfo(text).map((mount) => mount.mountPoint));
}

function stat(path: string): Stats | undefined {
  return tolerateAbsent(`inspect ${path}`, () => lstatSync(path));
}

function tolerateAbsent<T>(action: string, effect: () => T): T | undefined {
  try {
    return withErrno(action, effect);
  } catch (error) {
    if (errnoName(error) === 'ENOENT') return undefined;
    throw error;
  }
}
