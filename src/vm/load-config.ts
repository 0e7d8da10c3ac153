import { type Config, parseConfig } from '../core/config.ts';
import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { type AnyMessage, fieldText, readFields } from '../core/protobuf-fields.ts';

const DEFAULT_PATH = '/etc/vmshim/config.toml';

/**
 * The configuration that applies to a task, from the nearest place that has one: the runtime option `ConfigPath`, the
 * option table itself (containerd re-writes it as TOML), `VMSHIM_CONFIG`, the default file, built-in defaults. Options
 * of other runtimes are not ours to judge and are passed over.
 * @throws VmError InvalidArgument with file and line, NotFound for a file that was named and is not there.
 */
export function loadConfig(host: Host, env: NodeJS.ProcessEnv, options: AnyMessage | undefined): Config {
  if (options?.typeUrl.split('/').at(-1) === 'runtimeoptions.v1.Options') {
    const fields = readFields(options.value);
    const path = fieldText(fields.get(2)?.[0]);
    if (path !== '') return parseConfig(readNamed(host, path, 'the runtime option ConfigPath'), path);
    const body = fieldText(fields.get(3)?.[0]);
    if (body !== '') return parseConfig(body, 'options of the runtime in containerd’s config');
  }
  const named = env['VMSHIM_CONFIG'];
  if (named !== undefined && named !== '') {
    return parseConfig(readNamed(host, named, 'the variable VMSHIM_CONFIG'), named);
  }
  try {
    return parseConfig(host.readText(DEFAULT_PATH), DEFAULT_PATH);
  } catch (error) {
    if (VmError.is(error, 'NotFound')) return parseConfig('', DEFAULT_PATH);
    throw error;
  }
}

function readNamed(host: Host, path: string, setting: string): string {
  try {
    return host.readText(path);
  } catch (cause) {
    const { kind, message } = VmError.from(cause);
    throw new VmError(kind, `${setting} names a config file that does not serve: ${message}; correct it`, {
      cause,
    });
  }
}
