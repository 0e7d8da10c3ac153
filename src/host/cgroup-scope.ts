import { basename, dirname } from 'node:path';
import { VmError } from '../core/errors.ts';
import { absentIs } from './absent-is.ts';
import { type Cgroup, scopePath } from './cgroup-plan.ts';
import type { Host } from './host.ts';

/** The leaf of a scope whose one process has the scope stay while no QEMU runs. */
const HOLD = 'hold';

/** A scope of systemd's, in which a VM has its cgroup. */
export interface Scope {
  /** Names of units: the scope, and the slice it is in. */
  readonly unit: string;
  readonly slice: string;
  /** What systemd makes for it and leaves to us: with everything below. */
  readonly cgroup: Cgroup;
}

/** The scope whose leaf the cgroup is; undefined for a cgroup of which systemd knows nothing. */
export function scopeOf({ path, dirs }: Cgroup): Scope | undefined {
  const scope = scopePath(path);
  if (scope === undefined) return undefined;
  const slice = basename(dirname(scope));
  return {
    unit: basename(scope),
    slice: slice === '' ? '-.slice' : slice,
    cgroup: {
      path: scope,
      dirs: dirs.map(({ hierarchy, dir }) => ({ hierarchy, dir: dirname(dir) })),
    },
  };
}

/** All that was made for a VM: the whole of its scope, or the cgroup itself. */
export function wholeCgroup(cgroup: Cgroup): Cgroup {
  return scopeOf(cgroup)?.cgroup ?? cgroup;
}

/**
 * Has systemd make the scope, with delegation: what is below it is ours from then on, and the controllers that we use there
 * stay with it whatever systemd does to the slices above (https://systemd.io/CGROUP_DELEGATION). A scope lives as long as a
 * process is in it, so a sleeping one stays in a leaf of its own: QEMU's cgroup can be prepared, a VM can be off, and what an
 * ended QEMU has used and why it was killed can be read. It ends with the cgroup, by whoever kills that.
 *
 * @param env what marks the process as the VM's, should we die before the scope is there
 * @throws VmError FailedPrecondition with systemd's own words
 */
export async function holdScope(
  host: Host,
  { unit, slice, cgroup }: Scope,
  env: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<void> {
  if (isHeld(host, cgroup)) return;
  try {
    await host.exec('systemd-run', planScope({ unit, slice, cgroup }), { env, signal });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new VmError(
      'FailedPrecondition',
      `systemd does not make ${unit} in ${slice}, the VM’s place by linux.cgroupsPath: ${VmError.from(error).message}`,
      { cause: error },
    );
  }
}

/** Arguments of systemd-run(1), which is in the scope when it runs the command. */
export function planScope({ unit, slice, cgroup }: Scope): readonly string[] {
  const dirs = cgroup.dirs.map(({ dir }) => dir);
  return [
    ...['--scope', '--quiet', '--collect', `--unit=${unit}`, `--slice=${slice}`],
    `--description=VM ${unit.replace(/\.scope$/, '')}`,
    // As runc's scopes: without systemd's own order of a shutdown, in which it would be stopped before kubelet.
    ...['--property=Delegate=yes', '--property=DefaultDependencies=no'],
    ...['--', '/bin/sh', '-c', HOLDER, 'sh', ...dirs],
  ];
}

/** The shell itself leaves with its end, so that no process is left in the scope's own cgroup, which then can have leaves. */
const HOLDER = `set -e
setsid sleep infinity </dev/null >/dev/null 2>&1 &
for dir; do
  mkdir -p "$dir/${HOLD}"
  echo $! >"$dir/${HOLD}/cgroup.procs"
done
`;

function isHeld(host: Host, { dirs }: Cgroup): boolean {
  return dirs.every(
    ({ dir }) => absentIs('', () => host.readText(`${dir}/${HOLD}/cgroup.procs`)).trim() !== '',
  );
}
