import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';

/**
 * Makes a directory at or below one that the configuration names, readable for root only.
 * @throws VmError FailedPrecondition naming the configuration key.
 */
export function makeOwnDirectory(
  host: Host,
  setting: { readonly key: 'state_dir' | 'data_dir'; readonly value: string },
  path: string = setting.value,
): void {
  try {
    host.makeDir(path, 0o700);
  } catch (cause) {
    const { key, value } = setting;
    throw new VmError(
      'FailedPrecondition',
      `config key "${key}" is "${value}", which cannot be used: ${VmError.from(cause).message}; name a directory on a writable file system`,
      { cause },
    );
  }
}
