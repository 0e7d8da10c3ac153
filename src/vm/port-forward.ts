import { VmError } from '../core/errors.ts';
import { forwardLoopback } from '../host/loopback-forward.ts';
import type { MachineDeps } from './machine-request.ts';
import type { NicPlan } from './nic-plan.ts';

/** What serves `kubectl port-forward`; a VM without it works, so why it is missing is only a warning. */
export interface PortForward extends Disposable {
  readonly warnings: readonly string[];
}

/**
 * containerd serves `kubectl port-forward` by connecting to localhost in the pod's network namespace, where of a VM nothing
 * listens. Those connections are made to the pod's first addresses from the node's namespace, as a probe of kubelet's is.
 */
export function forwardPorts(
  { native, log }: MachineDeps,
  [first]: readonly NicPlan[],
  netns: string | undefined,
): PortForward {
  const addresses = first?.guest.addresses.map(({ address }) => address) ?? [];
  if (netns === undefined || addresses.length === 0)
    return { warnings: [], [Symbol.dispose]: () => undefined };
  try {
    const forward = forwardLoopback(native, {
      netns,
      addresses,
      onRefused: (port, reason) =>
        log.info('a forwarded port has not been reached', { port, reason: reason.message }),
    });
    return { warnings: [], [Symbol.dispose]: () => forward[Symbol.dispose]() };
  } catch (error) {
    const { message } = VmError.from(error);
    return {
      warnings: [`kubectl port-forward will not reach this VM: ${message}`],
      [Symbol.dispose]: () => undefined,
    };
  }
}
