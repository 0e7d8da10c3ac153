import { describeError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import type { DhcpCounters } from '../net/dhcp/dhcp-responder.ts';
import { type GuardCounters, readGuardCounters } from '../net/guard.ts';
import { type GuardPoint, guardMirroredTap, guardTap } from '../net/guard-point.ts';
import type { GuestInterface } from '../net/guest-network.ts';
import type { GuestServices } from './guest-nics.ts';
import type { NicPlan } from './nic-plan.ts';

/** One card of a VM at this moment. */
export interface NicStatus {
  readonly tap: string;
  readonly guest: GuestInterface;
  /** Addresses, in CIDR, that the guest booted with, where it has others now; else empty. */
  readonly bootedWith: readonly string[];
  readonly guard: GuardStatus;
  /** What became of the guest's requests; zeros are left out. */
  readonly dhcp: Partial<DhcpCounters>;
}

export type GuardStatus =
  | { readonly kind: 'on'; readonly dropped: GuardCounters }
  | { readonly kind: 'off' }
  /** Somebody else has emptied nftables. */
  | { readonly kind: 'missing' }
  | { readonly kind: 'unknown'; readonly reason: string };

/** Asks nftables and the responders; never fails. */
export async function readNicStatus(
  host: Host,
  plans: readonly NicPlan[],
  services: GuestServices,
  signal: AbortSignal,
): Promise<NicStatus[]> {
  const counters = services.dhcpCounters();
  return await Promise.all(
    plans.map(async (plan, i) => ({
      tap: plan.tap,
      guest: plan.guest,
      bootedWith: (plan.kind === 'netns' ? plan.bootedWith : undefined) ?? [],
      guard: await readGuard(host, plan, signal),
      dhcp: Object.fromEntries(Object.entries(counters[i] ?? {}).filter(([, count]) => count > 0)),
    })),
  );
}

async function readGuard(host: Host, plan: NicPlan, signal: AbortSignal): Promise<GuardStatus> {
  if (!plan.guarded) return { kind: 'off' };
  try {
    const dropped = await readGuardCounters(host, pointOf(plan), signal);
    return dropped === undefined ? { kind: 'missing' } : { kind: 'on', dropped };
  } catch (error) {
    return { kind: 'unknown', reason: describeError(error) };
  }
}

function pointOf(plan: NicPlan): GuardPoint {
  return plan.kind === 'tap'
    ? guardTap(plan.tap, plan.attachment)
    : guardMirroredTap(plan.netns, plan.tap, plan.guest.ifName);
}
