import { absentIs } from '../host/absent-is.ts';
import type { VmSpec } from '../core/vm-spec.ts';
import { openPodNic, openTapNic } from '../net/attach-nic.ts';
import { describeBandwidth } from '../net/bandwidth.ts';
import { type DhcpCounters, openDhcpResponder } from '../net/dhcp/dhcp-responder.ts';
import { restoreGuards } from '../net/guard.ts';
import { tapMac } from '../net/tap-name.ts';
import { openVhost } from '../net/vhost.ts';
import type { FdRole } from '../qemu/plan-fds.ts';
import type { TapNic } from '../qemu/qemu-input.ts';
import type { MachineDeps } from './machine-request.ts';
import type { NicPlan } from './nic-plan.ts';
import { runningGuards } from './running-guards.ts';

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
  deps: MachineDeps,
  plans: readonly NicPlan[],
  { spec, uid, stateDir }: { spec: VmSpec; uid: number; stateDir: string },
  signal: AbortSignal,
): Promise<GuestNics> {
  const { host, native } = deps;
  using open = new DisposableStack();
  const onNewRules = (): Promise<void> => restoreOthers(deps, stateDir, signal);
  const fds = new Map<FdRole, number>();
  const nics: TapNic[] = [];
  const summary: string[] = [];
  const { nicModel } = spec.hardware;
  const queues = nicModel === 'virtio' ? Math.min(spec.vcpus, MAX_QUEUES) : 1;
  for (const [index, plan] of plans.entries()) {
    const { mac, mtu, ifName } = plan.guest;
    const options = { queues, uid, guard: plan.guarded, onNewRules };
    const tap = open.use(
      plan.kind === 'tap'
        ? await openTapNic({ host, native }, plan, options, signal)
        : await openPodNic({ host, native }, plan, options, signal),
    );
    tap.queues.forEach(({ fd }, queue) => fds.set(`nic${index}-tap${queue}`, fd));
    const vhost =
      nicModel === 'virtio'
        ? openVhost(host, queues)
        : ({ kind: 'none', reason: `the card is an ${nicModel}` } as const);
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

/** The guard's rules were gone, and the entries of VMs that run now with them, unless this is the first one. */
async function restoreOthers(
  { host, log }: MachineDeps,
  stateDir: string,
  signal: AbortSignal,
): Promise<void> {
  const others = runningGuards(host, stateDir);
  if (others.length === 0) return;
  const lost = await restoreGuards(host, others, signal);
  log.warn('the spoof guard of this node was gone and is back', {
    taps: others.length,
    lost: lost.join(' '),
  });
}

/** Everything that answers the guest while the VM lives. */
export interface GuestServices extends Disposable {
  /** In the order of the cards. */
  dhcpCounters(): DhcpCounters[];
  /** Tells the guest anew, unasked, who stands behind the IPv6 router that it knows at a card; nothing where it knows the real one. */
  tellGateway(index: number): void;
}

/** Tells the guest its addresses for as long as the VM lives, by a responder for every card. */
export function answerDhcp(
  { host, native, log }: MachineDeps,
  plans: readonly NicPlan[],
  hostname: string,
): GuestServices {
  using open = new DisposableStack();
  const responders = plans.map((plan) =>
    open.use(
      openDhcpResponder(native, {
        ifName: plan.tap,
        ...(plan.kind === 'netns' && { netns: plan.netns }),
        guest: plan.guest,
        hostname,
        ...(plan.router6 !== undefined && { router6: plan.router6 }),
        readMac: (link) => absentIs(undefined, () => host.readText(`/sys/class/net/${link}/address`).trim()),
        ...(plan.kind === 'tap' && plan.attachment.kind === 'routed' && { nodeMac: tapMac(plan.guest.mac) }),
        logger: log,
      }),
    ),
  );
  const kept = open.move();
  return {
    dhcpCounters: () => responders.map((responder) => responder.counters()),
    tellGateway: (index) => responders[index]?.tellGateway(),
    [Symbol.dispose]: () => kept.dispose(),
  };
}
