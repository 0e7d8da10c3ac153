import { VmError } from '../../core/errors.ts';
import type { ExecResult, Host } from '../../host/host.ts';
import type { CniEnvironment } from './cni-call.ts';
import { CNI_CODE, CniError } from './cni-error.ts';

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

/** Runs a plugin to its end with our CNI_ variables and the configuration on stdin. A failed one says why in JSON on stdout. */
export async function execPlugin(
  host: Host,
  path: string,
  {
    environment,
    input,
    signal,
  }: { environment: CniEnvironment; input: string; signal?: AbortSignal | undefined },
): Promise<ExecResult> {
  const options = { env: environment, input, anyStatus: true };
  try {
    return await host.exec(path, [], signal === undefined ? options : { ...options, signal });
  } catch (error) {
    if (!VmError.is(error, 'Internal')) throw error;
    // Killed by a signal.
    throw new CniError(CNI_CODE.ipam, `IPAM plugin failed: ${error.message}`, { cause: error });
  }
}
