import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { detachTap } from '../net/attach-tap.ts';
import { removeGuard } from '../net/guard.ts';
import { removeMirror } from '../net/tc-mirror.ts';
import { guardOf, type NicPlan } from './nic-plan.ts';

/** Undoes what outlives a card's TAP. Idempotent; needs neither TAP nor namespace to be there. */
export async function unplugNics(host: Host, plans: readonly NicPlan[], signal: AbortSignal): Promise<void> {
  const failed: unknown[] = [];
  const attempt = (step: Promise<void>): Promise<void> =>
    step.catch((error: unknown) => void failed.push(error));
  for (const plan of plans) {
    await attempt(removeGuard(host, guardOf(plan), plan.guest, signal));
    if (plan.kind === 'tap') await attempt(detachTap(host, plan.tap, plan.attachment, signal));
    else await attempt(removeMirror(host, { netns: plan.netns, link: plan.link }, signal));
  }
  const [first] = failed;
  if (first !== undefined) throw VmError.from(first, 'cannot take the VM off its network');
}
