import { describeExit, type ExitReason } from '../core/exit.ts';
import type { GuestEndPolicy, PowerSpec } from '../core/power-spec.ts';

/** What becomes of a VM whose QEMU has ended without anybody's asking. */
export type Verdict =
  /** The task ends. */
  | { readonly t: 'exit' }
  | { readonly t: 'hold'; readonly why: string }
  /** `at` in milliseconds since the epoch. */
  | { readonly t: 'boot'; readonly at: number; readonly why: string };

/** How often the guest has ended soon after its boot, in a row. */
export type ShortLives = number;

/** As kubelet waits before it starts a container again: 10 s, twice as long each time, at most 5 minutes. */
const FIRST_WAIT_MS = 10_000;
const LONGEST_WAIT_MS = 300_000;
/** A guest that ran this long is no loop. */
const LONG_LIFE_MS = 600_000;

/**
 * Judges the end of a QEMU by the guest's policies. The first boot after an end follows at once.
 * @param bootedAt when this QEMU's guest was started.
 */
export function judge(
  reason: ExitReason,
  policies: PowerSpec,
  {
    shortLives,
    bootedAt,
    at,
  }: { readonly shortLives: ShortLives; readonly bootedAt: number; readonly at: number },
): { readonly verdict: Verdict; readonly shortLives: ShortLives } {
  const why = describeEnd(reason);
  switch (policyOf(reason, policies)) {
    case 'exit':
      return { verdict: { t: 'exit' }, shortLives };
    case 'hold':
      return { verdict: { t: 'hold', why }, shortLives: 0 };
    case 'restart': {
      const short = at - bootedAt < LONG_LIFE_MS ? shortLives + 1 : 0;
      return { verdict: bootAfter(why, short, at), shortLives: short };
    }
  }
}

/** The next try after one that has failed, or after a life of the guest that was too short. */
export function bootAfter(why: string, short: ShortLives, at: number): Extract<Verdict, { t: 'boot' }> {
  const wait = short <= 1 ? 0 : Math.min(FIRST_WAIT_MS * 2 ** (short - 2), LONGEST_WAIT_MS);
  if (wait === 0) return { t: 'boot', at, why };
  const when = new Date(at + wait).toISOString();
  return {
    t: 'boot',
    at: at + wait,
    why: `${why}, ${short} times soon after a boot; it boots again at ${when}`,
  };
}

function policyOf(reason: ExitReason, { onPoweroff, onReboot, onCrash }: PowerSpec): GuestEndPolicy {
  switch (reason.kind) {
    case 'guest-shutdown':
      return onPoweroff;
    case 'guest-reset':
      return onReboot;
    case 'guest-panic':
    case 'crashed':
    case 'qemu-error':
    case 'out-of-memory':
      return onCrash;
    case 'killed':
    case 'powered-off':
      return 'exit';
  }
}

function describeEnd(reason: ExitReason): string {
  return reason.kind === 'guest-reset' ? 'the guest rebooted' : describeExit(reason);
}
