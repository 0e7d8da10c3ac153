import type { VmSpec } from '../core/vm-spec.ts';
import { attachTap } from '../net/attach-tap.ts';
import { type DhcpResponder, openDhcpResponder } from '../net/dhcp/dhcp-responder.ts';
import { applyGuard } from '../net/guard.ts';
import { openTap } from '../net/tap.ts';
import { applyMirror } from '../net/tc-mirror.ts';
import { openVhost } from '../net/vhost.ts';
import type { FdRole } from '../qemu/plan-fds.ts';
import type { TapNic } from '../qemu/qemu-input.ts';
import type { MachineDeps } from './machine-request.ts';
import { guardOf, type NicPlan } from './nic-plan.ts';

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
    const netns = plan.kind === 'tap' ? undefined : plan.netns;
    const tap = open.use(openTap({ host, native }, { name: plan.tap, queues, netns, uid }));
    tap.queues.forEach(({ fd }, queue) => fds.set(`nic${index}-tap${queue}`, fd));
    if (plan.kind === 'tap') await attachTap(host, plan.tap, plan.attachment, plan.guest, signal);
    else {
      await applyMirror(
        host,
        { netns: plan.netns, tap: plan.tap, link: plan.link, mtu, sender: 'guard' },
        signal,
      );
    }
    await applyGuard(host, guardOf(plan), plan.guest, signal);
    const vhost = openVhost(host, queues);
    if (vhost.kind === 'vhost') {
      open.use(vhost);
      vhost.fds.forEach(({ fd }, queue) => fds.set(`nic${index}-vhost${queue}`, fd));
    }
    nics.push({ mac, mtu, queues, vhost: vhost.kind === 'vhost' });
    const how = plan.kind === 'tap' ? plan.attachment.kind : `beside ${plan.link} in the pod’s namespace`;
    const without = vhost.kind === 'vhost' ? 'vhost-net' : `no vhost-net: ${vhost.reason}`;
    summary.push(`${ifName} on ${plan.tap} (${how}), ${queues} queues, ${without}`);
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
