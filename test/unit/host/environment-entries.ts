/**
 * The entries of a /proc/PID/environ text, sorted, without those that tap's own loader adds to every child of a test.
 */
export function environmentEntries(environ: string): string[] {
  return environ
    .split('\0')
    .filter((entry) => entry !== '' && !/^(NODE_OPTIONS=|TAP|_TAP)/.test(entry))
    .sort();
}
