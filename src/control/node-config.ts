import type { Config } from '../core/config.ts';
import type { Host } from '../host/host.ts';
import { loadConfig } from '../vm/load-config.ts';

/**
 * The node's configuration for programs that look after all of its VMs: VMSHIM_CONFIG, the default file, or defaults.
 * @throws VmError as loadConfig.
 */
export function nodeConfig(host: Host, env: NodeJS.ProcessEnv): Config {
  return loadConfig(host, env, undefined);
}
