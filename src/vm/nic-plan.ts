import { VmError } from '../core/errors.ts';
import type { VmSpec } from '../core/vm-spec.ts';
import type { Logger } from '../core/logger.ts';
import type { Host } from '../host/host.ts';
import type { Native } from '../host/native.ts';
import type { Bandwidth } from '../net/bandwidth.ts';
import type { Router6 } from '../net/dhcp/lease6.ts';
import type { GuestInterface, TapAttachment } from '../net/guest-network.ts';
import { readHandovers } from '../net/handover.ts';
import { nicOrder } from '../net/nic-order.ts';
import { listLinkNames } from '../net/link-names.ts';
import type { CountedNic } from '../net/nic-counters.ts';
import { readPodInterfaces } from '../net/pod-interface.ts';
import { findRouter6 } from '../net/router6.ts';
import { tapName } from '../net/tap-name.ts';
import { readPodDns } from './pod-dns.ts';

const DEFAULT_ROUTES: ReadonlySet<string> = new Set(['0.0.0.0/0', '::/0']);

/** One card of the pod's network, before anything is made for it; part of the VM's record. */
export type NicPlan = TapNicPlan | MirroredNicPlan;

interface NicCommon {
  readonly tap: string;
  readonly guest: GuestInterface;
  /** Whether the guest is held to its own addresses. */
  readonly guarded: boolean;
  /** How the guest gets to an IPv6 gateway that it cannot be told of. */
  readonly router6: Router6 | undefined;
}

export interface PlanNicsDeps {
  readonly host: Host;
  readonly native: Native;
  readonly log: Logger;
}

/** Where what is known of a pod's network lies on the host. */
export interface PodNetworkPlace {
  readonly stateDir: string;
  /** Path of the pod's network namespace. */
  readonly netns: string | undefined;
  readonly resolvConf: string | undefined;
}

/** A TAP in the node's namespace, as the CNI plugin `vm-tap` handed it over. */
export interface TapNicPlan extends NicCommon {
  readonly kind: 'tap';
  readonly attachment: TapAttachment;
  /** Undefined: no limit; absent in records of older versions. */
  readonly bandwidth: Bandwidth | undefined;
}

/** A TAP in the pod's namespace beside the link that another CNI plugin left there. */
export interface MirroredNicPlan extends NicCommon {
  readonly kind: 'netns';
  readonly netns: string;
  /** The link's own MAC address, where the guest's is another: it was made before the link. */
  readonly linkMac?: string | undefined;
  /** Addresses, in CIDR, that the guest booted with, where the pod has others now. */
  readonly bootedWith?: readonly string[] | undefined;
  /** The guest has yet to see its link go down and up, so that it asks for its addresses. */
  readonly untold?: boolean | undefined;
}

/** Where the kernel counts what passes a card. */
export function countedNic(plan: NicPlan): CountedNic {
  const netns = plan.kind === 'netns' ? plan.netns : undefined;
  return { tap: plan.tap, netns, ifName: plan.guest.ifName };
}

/**
 * The cards of a pod's VM: those that `vm-tap` prepared for the sandbox, and one for each other link in the pod's namespace,
 * in the order of their names. At most one of them has a default route of a family, the first that was given one. None for
 * the other network modes.
 * @throws VmError FailedPrecondition where the pod has no network to join.
 */
export async function planNics(
  deps: PlanNicsDeps,
  { network, owner }: VmSpec,
  { stateDir, netns, resolvConf }: PodNetworkPlace,
  signal: AbortSignal,
): Promise<NicPlan[]> {
  const { host } = deps;
  if (network.mode !== 'pod' || owner.kind !== 'pod') return [];
  const { wanted, mac, guard: guarded } = network;
  const prepared = wanted === 'netns' ? [] : prepareTaps(host, stateDir, owner.sandboxId, guarded);
  if (wanted === 'tap' && prepared.length === 0) {
    throw new VmError(
      'FailedPrecondition',
      'annotation vmshim.io/network is "tap" but the CNI plugin vm-tap left nothing for this pod; name vm-tap in the CNI configuration of the runtime (cni_conf_dir), or leave the annotation out',
    );
  }
  const taken = new Set(prepared.map(({ guest }) => guest.ifName));
  const mirrored: NicPlan[] =
    wanted !== 'tap' && netns !== undefined && mayHoldMore(deps, netns, taken)
      ? (await readPodInterfaces(host, netns, signal))
          .filter(({ ifName }) => !taken.has(ifName))
          .map((guest) => {
            const tap = tapName(owner.uid, guest.ifName);
            return { kind: 'netns', netns, tap, guest, guarded, router6: undefined };
          })
      : [];
  const plans = [...prepared, ...mirrored].sort((a, b) => nicOrder(a.guest.ifName, b.guest.ifName));
  const [first] = plans;
  if (first === undefined) throw noNetwork(netns);
  if (mac !== undefined) expectMac(first, mac);
  const routed = keepOneDefault(plans).map((plan) => ({
    ...plan,
    router6: findRouter6(host, plan, plan.guest),
  }));
  return withPodDns(deps, routed, resolvConf);
}

function prepareTaps(host: Host, stateDir: string, sandboxId: string, guarded: boolean): NicPlan[] {
  return readHandovers(host, stateDir, sandboxId).map(({ tap, attachment, guest, bandwidth }) => ({
    kind: 'tap',
    tap,
    attachment,
    guest,
    bandwidth,
    guarded,
    router6: undefined,
  }));
}

/**
 * The pod's DNS is that of its first card unless the CNI plugin knew better: a resolver that is told of it at another card
 * as well asks there, where it may not be reached.
 */
function withPodDns(
  deps: PlanNicsDeps,
  [first, ...others]: readonly NicPlan[],
  resolvConf: string | undefined,
): NicPlan[] {
  if (first === undefined) return [];
  const { nameservers, search } = first.guest.dns;
  if (resolvConf === undefined || nameservers.length + search.length > 0) return [first, ...others];
  return [{ ...first, guest: { ...first.guest, dns: readPodDns(deps, resolvConf) } }, ...others];
}

/** Whether it is worth a process to see: with `vm-tap` alone the namespace holds no link but `lo`. */
function mayHoldMore(deps: PlanNicsDeps, netns: string, taken: ReadonlySet<string>): boolean {
  if (taken.size === 0) return true;
  return listLinkNames(deps, netns).some((name) => name !== 'lo' && !taken.has(name));
}

/** A guest with two would use either, as its system pleases, and its neighbours drop what comes from the wrong address. */
function keepOneDefault(plans: readonly NicPlan[]): NicPlan[] {
  const given = new Set<string>();
  return plans.map((plan) => {
    const had = new Set(given);
    const routes = plan.guest.routes.filter(({ destination }) => {
      if (!DEFAULT_ROUTES.has(destination)) return true;
      given.add(destination);
      return !had.has(destination);
    });
    return { ...plan, guest: { ...plan.guest, routes } };
  });
}

function expectMac({ kind, guest }: NicPlan, wanted: string): void {
  if (guest.mac === wanted) return;
  const remedy =
    kind === 'tap'
      ? 'give vm-tap the capability "io.kubernetes.cri.pod-annotations" in its CNI configuration, so that it knows'
      : 'have the CNI plugin give the pod’s link this address, or remove the annotation';
  throw new VmError(
    'FailedPrecondition',
    `annotation vmshim.io/mac is "${wanted}" but the pod’s network gave ${guest.ifName} the address ${guest.mac}; ${remedy}`,
  );
}

function noNetwork(netns: string | undefined): VmError {
  return new VmError(
    'FailedPrecondition',
    netns === undefined
      ? 'the pod’s sandbox names no network namespace, so the VM has no network to join; set vmshim.io/network to "user" or "none"'
      : `the pod’s network namespace ${netns} holds no link that a VM can be given; set vmshim.io/network to "user" or "none", or see which CNI plugin the runtime uses`,
  );
}
