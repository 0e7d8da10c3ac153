import { containerd } from '#wire';
import { writeStdout } from '../host/standard-streams.ts';
import { VERSION } from '../vm/version.ts';

/** The `-info` action. Source: containerd api/types/introspection.proto (RuntimeInfo). */
export function writeInfo(): void {
  const info = containerd.types.RuntimeInfo.encode({
    name: 'io.containerd.vm.v2',
    version: { version: VERSION, revision: '' },
    annotations: {},
  });
  writeStdout(info.finish());
}
