import type { VmSpec } from '../core/vm-spec.ts';
import { openPodNic, openTapNic } from '../net/attach-nic.ts';
import { describeBandwidth } from '../net/bandwidth.ts';
import { type DhcpResponder, openDhcpResponder } from '../net/dhcp/dhcp-responder.ts';
import { openVhost } from '../net/vhost.ts';
import type { FdRole } from '../qemu/plan-fds.ts';
import type { TapNic } from '../qemu/qemu-input.ts';
import type { MachineDeps } from './machine-request.ts';
import type { NicPlan } from './nic-plan.ts';

/** The cards of a VM, plugged in. Disposing closes our descriptors; QEMU's copies keep the TAPs. */
export interface GuestNics extends Disposable {
  readonly nics: readonly TapNic[];
  readonly fds: ReadonlyMap<FdRole, number>;
  /** One sentence for `vmctl status`. */
  readonly summary: string;
}

/** More queues than vCPUs are of no use to a guest; more than eight hardly. */
const MAX_QUEUES = 8;

/**
 * Opens a TAP for each card, joins it with its network behind the spoof guard and takes vhost-net where the host has it.
 * The plans must be in the record before: what fails, or is left by a crash, is undone by `unplugNics`.
 */
export async function plugNics(
  { host, native }: MachineDeps,
  plans: readonly NicPlan[],
  { spec, uid }: { spec: VmSpec; uid: number },
  signal: AbortSignal,
): Promise<GuestNics> {
  using open = new DisposableStack();
  const fds = new Map<FdRole, number>();
  const nics: TapNic[] = [];
  const summary: string[] = [];
  const queues = Math.min(spec.vcpus, MAX_QUEUES);
  for (const [index, plan] of plans.entries()) {
    const { mac, mtu, ifName } = plan.guest;
    const options = { queues, uid, guard: true };
    const tap = open.use(
      plan.kind === 'tap'
        ? await openTapNic({ host, native }, plan, options, signal)
        : await openPodNic({ host, native }, plan, options, signal),
    );
    tap.queues.forEach(({ fd }, queue) => fds.set(`nic${index}-tap${queue}`, fd));
    const vhost = openVhost(host, queues);
    if (vhost.kind === 'vhost') {
      open.use(vhost);
      vhost.fds.forEach(({ fd }, queue) => fds.set(`nic${index}-vhost${queue}`, fd));
    }
    nics.push({ mac, mtu, queues, vhost: vhost.kind === 'vhost' });
    const how = plan.kind === 'tap' ? plan.attachment.kind : `beside ${ifName} in the pod’s namespace`;
    const without = vhost.kind === 'vhost' ? 'vhost-net' : `no vhost-net: ${vhost.reason}`;
    const limit =
      plan.kind === 'tap' && plan.bandwidth !== undefined
        ? `, limited to ${describeBandwidth(plan.bandwidth)}`
        : '';
    summary.push(`${ifName} on ${plan.tap} (${how}), ${queues} queues, ${without}${limit}`);
  }
  const files = open.move();
  return {
    nics,
    fds,
    summary: summary.length === 0 ? spec.network.mode : summary.join('; '),
    [Symbol.dispose]: () => files.dispose(),
  };
}

/** Tells the guest its addresses for as long as the VM lives; what is disposed with it is every card's responder. */
export function answerDhcp(
  { native, log }: MachineDeps,
  plans: readonly NicPlan[],
  hostname: string,
): Disposable {
  using open = new DisposableStack();
  for (const plan of plans) {
    const responder: DhcpResponder = openDhcpResponder(native, {
      ifName: plan.tap,
      ...(plan.kind === 'netns' && { netns: plan.netns }),
      guest: plan.guest,
      hostname,
      logger: log,
    });
    open.use(responder);
  }
  return open.move();
}
