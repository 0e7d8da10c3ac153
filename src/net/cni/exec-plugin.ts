import { VmError } from '../../core/errors.ts';
import type { Host } from '../../host/host.ts';
import type { CniEnvironment } from './cni-call.ts';
import { CNI_CODE, CniError } from './cni-error.ts';

/** How a plugin ended. A failed one says why in JSON on stdout. */
export interface PluginEnd {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * `Host.exec` gives a command no variables of ours and drops the stdout of one that fails. The shell is asked for both;
 * every value reaches it as an argument.
 */
const SCRIPT = 'plugin=$1; shift; export "$@"; "$plugin"; printf "\\n%d" "$?"';

/** Path of a plugin in CNI_PATH, the first that is there. Throws CniError `ipam`. */
export function findPlugin(host: Host, environment: CniEnvironment, type: string): string {
  const directories = (environment['CNI_PATH'] ?? '').split(':').filter((directory) => directory !== '');
  for (const directory of directories) {
    const path = `${directory}/${type}`;
    const info = host.inspect(path);
    if (info?.kind === 'symlink' || (info?.kind === 'file' && (info.mode & 0o111) !== 0)) return path;
  }
  throw new CniError(
    CNI_CODE.ipam,
    `there is no IPAM plugin "${type}" in CNI_PATH (${directories.join(', ')}); install it there, or correct ipam.type of the network configuration`,
  );
}

/** Runs a plugin to its end with our CNI_ variables and the configuration on stdin. */
export async function execPlugin(
  host: Host,
  path: string,
  {
    environment,
    input,
    signal,
  }: { environment: CniEnvironment; input: string; signal?: AbortSignal | undefined },
): Promise<PluginEnd> {
  const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  const { stdout, stderr } = await host.exec('/bin/sh', ['-c', SCRIPT, 'vm-tap', path, ...variables], {
    input,
    ...(signal !== undefined && { signal }),
  });
  const end = stdout.lastIndexOf('\n');
  const status = stdout.slice(end + 1);
  if (!/^\d+$/.test(status))
    throw new VmError('Internal', `the shell that ran ${path} did not tell its status`);
  return { status: Number(status), stdout: stdout.slice(0, end), stderr };
}
