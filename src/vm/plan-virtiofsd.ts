import type { SharedDirectory } from '../core/shared-directory.ts';

/** Descriptors of the process, behind stdin, stdout and stderr. */
export const VIRTIOFSD_FDS = { listener: 3, directory: 4 } as const;

export interface VirtiofsdPlace {
  /** Absolute path of the program. */
  readonly program: string;
  /** The VM's cgroup in every hierarchy. */
  readonly cgroupDirs: readonly string[];
  /** An empty directory that nobody else uses. */
  readonly mountPoint: string;
  /** `oom_score_adj`; undefined leaves it as it is. */
  readonly oomScore: number | undefined;
}

/**
 * What runs before the program, in a mount namespace of its own: into the VM's cgroup, so that whoever kills that leaves
 * nothing behind; then the directory is mounted where nothing else is below it, without devices and set-user-id programs, and
 * read-only where it has to be. virtiofsd itself goes on from there into namespaces of its own.
 */
const SCRIPT = `set -e
[ -z "$1" ] || echo "$1" >/proc/self/oom_score_adj
mountpoint=$2 access=$3
shift 3
while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs"; shift; done
shift
mount -n --bind /proc/self/fd/${VIRTIOFSD_FDS.directory}/. "$mountpoint"
mount -n -o "remount,bind,nosuid,nodev,$access" "$mountpoint"
exec "$@" ${VIRTIOFSD_FDS.directory}<&-
`;

/**
 * The command line of a virtiofsd, for util-linux's unshare(1). Both the program that was part of QEMU until 7.2 and the one
 * that followed it know these options.
 *
 * The guest's root is root in the directory, as a container's is, so virtiofsd is root too and keeps what takes to own and
 * read any file there (CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID): no device nodes, no file capabilities.
 */
export function planVirtiofsd({ access, cache }: SharedDirectory, place: VirtiofsdPlace): readonly string[] {
  const { program, cgroupDirs, mountPoint, oomScore } = place;
  const options = [
    `source=${mountPoint}`,
    'sandbox=namespace',
    'modcaps=-mknod:-setfcap',
    `cache=${cache === 'never' ? 'none' : cache}`,
  ];
  return [
    '--mount',
    // What the node unmounts goes here, too, or the file system would stay busy.
    '--propagation',
    'slave',
    '--',
    '/bin/sh',
    '-c',
    SCRIPT,
    'sh',
    oomScore === undefined ? '' : String(oomScore),
    mountPoint,
    access,
    ...cgroupDirs,
    '--',
    program,
    `--fd=${VIRTIOFSD_FDS.listener}`,
    '-o',
    options.join(','),
  ];
}
