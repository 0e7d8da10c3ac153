import type { ProcessNetwork } from '../host/host.ts';
import type { MachineRequest } from './machine-request.ts';
import type { VmDisks } from './vm-disks.ts';

/**
 * QEMU opens the connections of a guest of mode `user` itself, so it may do so where the pod may: in the node's own network
 * they would have the node's address, reach its loopback and pass by every network policy.
 */
export function qemuNetwork({ spec, netns, config }: MachineRequest, { remote }: VmDisks): ProcessNetwork {
  if (spec.network.mode === 'user') return netns === undefined ? 'inherit' : { path: netns };
  if (remote === undefined) return 'empty';
  // The administrator's choice: to name monitors is to let QEMU out to them.
  return config.rbd.netns === undefined ? 'inherit' : { path: config.rbd.netns };
}
