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
 * The guest's root is root in the directory, as a container's is, so virtiofsd is root too and keeps what takes to own and
 * read any file there (CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID): no device nodes, no file capabilities. Since 1.14
 * it would also refer to files by handles and keep DAC_READ_SEARCH for that, by which whoever took it over would reach every
 * file of the file system that the directory is on (open_by_handle_at(2)).
 */
const CAPABILITIES = '-mknod:-setfcap:-dac_read_search';

/**
 * What runs before the program, in a mount namespace of its own: into the VM's cgroup, so that whoever kills that leaves
 * nothing behind; then the directory is mounted where nothing else is below it, without devices and set-user-id programs, and
 * read-only where it has to be. virtiofsd itself goes on from there into namespaces of its own. The program that was part of
 * QEMU until 7.2 has other options than the one that followed it, which tells what it knows.
 */
const SCRIPT = `set -e
[ -z "$1" ] || echo "$1" >/proc/self/oom_score_adj
mountpoint=$2 access=$3 cache=$4
shift 4
while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs"; shift; done
mount -n --bind /proc/self/fd/${VIRTIOFSD_FDS.directory}/. "$mountpoint"
mount -n -o "remount,bind,nosuid,nodev,$access" "$mountpoint"
exec ${VIRTIOFSD_FDS.directory}<&-
case $("$2" --help 2>&1) in
*--inode-file-handles*)
  exec "$2" --fd=${VIRTIOFSD_FDS.listener} --shared-dir="$mountpoint" --sandbox=namespace \\
    --modcaps=${CAPABILITIES} --inode-file-handles=never --cache="$cache" ;;
esac
[ "$cache" != never ] || cache=none
exec "$2" --fd=${VIRTIOFSD_FDS.listener} -o "source=$mountpoint,sandbox=namespace,modcaps=${CAPABILITIES},cache=$cache"
`;

/** The command line of a virtiofsd, for util-linux's unshare(1). */
export function planVirtiofsd({ access, cache }: SharedDirectory, place: VirtiofsdPlace): readonly string[] {
  const { program, cgroupDirs, mountPoint, oomScore } = place;
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
    cache,
    ...cgroupDirs,
    '--',
    program,
  ];
}
