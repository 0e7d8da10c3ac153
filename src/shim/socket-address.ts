import { sha256 } from '../core/sha256.ts';
import { VmError } from '../core/errors.ts';

/** Where containerd's shims have their sockets unless `start` is told otherwise. */
export const DEFAULT_SOCKET_ROOT = '/run/containerd/s';

/** sun_path is 108 bytes with its NUL; Node 20 and 22 cut longer paths silently, so it is checked here. */
const SUN_PATH_MAX = 107;

/**
 * The shim's socket path: containerd's convention is the SHA-256 of its own address, the namespace and the group, so
 * two containerds or namespaces never meet and every `start` of one pod finds the same socket.
 * Source: containerd pkg/shim (SocketAddress).
 */
export function shimSocketPath(
  socketRoot: string,
  containerdAddress: string,
  namespace: string,
  group: string,
): string {
  const name = sha256(`${containerdAddress}/${namespace}/${group}`);
  const path = `${socketRoot}/${name}`;
  if (Buffer.byteLength(path) > SUN_PATH_MAX) {
    throw new VmError(
      'InvalidArgument',
      `shim socket path "${path}" is longer than the ${SUN_PATH_MAX} bytes a unix socket may have; choose a shorter socket directory`,
    );
  }
  return path;
}

/** Annotations that put several containers behind one shim, in containerd's order. */
const GROUP_ANNOTATIONS = ['io.containerd.runc.v2.group', 'io.kubernetes.cri.sandbox-id'] as const;

/** The group a container belongs to: its pod's sandbox id, else its own id. `spec` is the parsed config.json. */
export function shimGroup(spec: unknown, id: string): string {
  const annotations =
    typeof spec === 'object' && spec !== null && 'annotations' in spec ? spec.annotations : undefined;
  if (typeof annotations !== 'object' || annotations === null) return id;
  for (const key of GROUP_ANNOTATIONS) {
    const value: unknown = (annotations as Record<string, unknown>)[key];
    if (typeof value === 'string' && value !== '') return value;
  }
  return id;
}
