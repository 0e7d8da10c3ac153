/** One line of /proc/PID/mountinfo (proc_pid_mountinfo(5)). */
export interface Mount {
  /** Directory of the file system that is the root of this mount. */
  readonly root: string;
  readonly mountPoint: string;
  readonly fsType: string;
  readonly source: string;
  /** Options of the file system itself, such as the controllers of a cgroup v1 hierarchy. */
  readonly superOptions: readonly string[];
}

/** Parses the text of a mountinfo file; lines it does not understand are left out. */
export function parseMountinfo(text: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split('\n')) {
    // The optional fields before the separator vary in number.
    const [before, after] = line.split(' - ', 2);
    const [, , , root, mountPoint] = before?.split(' ') ?? [];
    const [fsType, source, superOptions] = after?.split(' ') ?? [];
    if (root === undefined || mountPoint === undefined || fsType === undefined || source === undefined)
      continue;
    mounts.push({
      root: unescape(root),
      mountPoint: unescape(mountPoint),
      fsType,
      source: unescape(source),
      superOptions: superOptions?.split(',') ?? [],
    });
  }
  return mounts;
}

/** Space, tab, newline and backslash are written as three octal digits. */
function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
