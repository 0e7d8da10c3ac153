import { join } from 'node:path';
import { VmError } from '../core/errors.ts';
import { absentIs } from '../host/absent-is.ts';
import type { Host } from '../host/host.ts';

/**
 * The memory node that a network interface's device is attached to, undefined where the firmware does not tell. Throws
 * NotFound for an interface that is not there, InvalidArgument for one without a device, such as a bridge or a bond.
 * @param root stands for `/`.
 */
export function readLinkNode(host: Host, link: string, root = '/'): number | undefined {
  const dir = join(root, 'sys/class/net', link);
  if (host.inspect(dir) === undefined) {
    throw new VmError(
      'NotFound',
      `annotation vmshim.io/numa is "near:${link}", but the host has no such network interface; name one of "ip link"`,
    );
  }
  const node = absentIs(undefined, () => host.readText(join(dir, 'device/numa_node')).trim());
  if (node === undefined) {
    throw new VmError(
      'InvalidArgument',
      `annotation vmshim.io/numa is "near:${link}", which is no device of its own; name the network card behind it`,
    );
  }
  return /^\d+$/.test(node) ? Number(node) : undefined;
}
