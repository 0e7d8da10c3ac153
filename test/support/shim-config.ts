import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Containerd } from './containerd.ts';
import { ACCEL } from './machine-traits.ts';

/**
 * A configuration file of the shim with containerd's private directories and `settings`, and the flags of `ctr run`
 * that name it. `after` is added as it is.
 */
export function shimConfig(
  { directory }: Containerd,
  name: string,
  settings: Readonly<Record<string, string>>,
  after = '',
): string[] {
  const path = join(directory, `${name}.toml`);
  const all = { accel: ACCEL, state_dir: `${directory}/vms`, data_dir: `${directory}/data`, ...settings };
  const lines = Object.entries(all).map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`);
  writeFileSync(path, lines.join('') + after);
  // QEMU's user has to reach what may stand for QEMU.
  chmodSync(directory, 0o711);
  return ['--runtime-config-path', path];
}
