import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** Where a containerd comes from: the package that this machine has, or that of another Debian release. */
export type ContainerdSource = 'host' | 'trixie' | 'sid';

/** A containerd to test with. */
export interface ContainerdRelease {
  readonly source: ContainerdSource;
  readonly major: number;
  readonly minor: number;
  /** Holds its programs: `containerd`, `ctr` and the shim of runc. runc itself is always the machine's. */
  readonly directory: string;
}

const buildContainerd = join(import.meta.dirname, '../../scripts/build-containerd');
const run = promisify(execFile);
const known = new Map<ContainerdSource, Promise<ContainerdRelease>>();

/** Fetches it when the cache lacks it. Test files that run at the same time fetch it once. */
export function containerdRelease(source: ContainerdSource): Promise<ContainerdRelease> {
  const release = known.get(source) ?? find(source);
  known.set(source, release);
  return release;
}

async function find(source: ContainerdSource): Promise<ContainerdRelease> {
  const directory = source === 'host' ? '/usr/bin' : (await run(buildContainerd, [source])).stdout.trim();
  const { stdout } = await run(join(directory, 'containerd'), ['--version']);
  // `containerd NAME VERSION REVISION`
  const [, major, minor] = / v?(\d+)\.(\d+)\.\d/.exec(stdout) ?? [];
  if (major === undefined || minor === undefined) throw new Error(`containerd --version says ${stdout}`);
  return { source, major: Number(major), minor: Number(minor), directory };
}
