import type { Host } from '../host/host.ts';
import { closePodNic, closeTapNic } from '../net/attach-nic.ts';
import { settleAll } from '../net/settle-all.ts';
import type { NicPlan } from './nic-plan.ts';

/** Undoes what outlives the TAPs of a VM. Idempotent; needs neither TAP nor namespace to be there. */
export async function unplugNics(host: Host, plans: readonly NicPlan[], signal: AbortSignal): Promise<void> {
  await settleAll(
    plans.map((plan) =>
      plan.kind === 'tap' ? closeTapNic(host, plan, signal) : closePodNic(host, plan, signal),
    ),
  );
}
