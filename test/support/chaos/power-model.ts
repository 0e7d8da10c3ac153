/**
 * What becomes of a VM's power, whatever is done to it: one that is off stays off, with its container RUNNING, through the death of
 * everything but its pod; a pause lives as long as its QEMU. Pure.
 */
import type { Boots } from './guest-model.ts';

export type Power = 'on' | 'off' | 'paused';

/** All that a VM may be as far as anybody can tell: more than one where something was cut short. */
export type Powers = ReadonlySet<Power>;

/** What a thing that is done to a VM comes to. */
export interface Outcome {
  readonly power: Power;
  readonly boots: Boots;
}

/** For each power that the VM may have had; undefined where it is refused, and nothing has happened. */
export type Effect = (before: Power) => Outcome | undefined;

export const NEW_VM: Powers = new Set(['on']);

export const POWER_VERBS = ['stop', 'start', 'reset', 'reboot', 'pause', 'resume'] as const;
export type PowerVerb = (typeof POWER_VERBS)[number];

const same = (power: Power): Outcome => ({ power, boots: 'never' });
const BOOTED: Outcome = { power: 'on', boots: 'must' };

/** What an operator asks for; docs/power.md. */
export const POWER: Readonly<Record<PowerVerb, Effect>> = {
  stop: () => same('off'),
  start: (before) => (before === 'off' ? BOOTED : same(before)),
  reset: (before) => (before === 'off' ? undefined : BOOTED),
  reboot: (before) => (before === 'off' ? undefined : BOOTED),
  pause: (before) => (before === 'on' ? same('paused') : undefined),
  resume: (before) => (before === 'paused' ? same('on') : undefined),
};

/** What boots a guest, or may, boots none of a VM that is off; and a VM that boots is paused no more. */
export function effectOf(boots: Boots): Effect {
  return (before) => (before === 'off' || boots === 'never' ? same(before) : { power: 'on', boots });
}

/** A VM of which nobody knows that it was ever switched off. */
export const anew: Effect = () => BOOTED;

/** What all of them come to. */
export function apply(powers: Powers, effect: Effect): { readonly powers: Powers; readonly boots: Boots } {
  const outcomes = [...powers].flatMap((before) => {
    const outcome = effect(before) ?? same(before);
    // What only may boot it may also leave it as it was.
    return outcome.boots === 'may' ? [outcome, same(before)] : [outcome];
  });
  const [first = 'never', ...others] = new Set(outcomes.map(({ boots }) => boots));
  return {
    powers: new Set(outcomes.map(({ power }) => power)),
    boots: others.length === 0 ? first : 'may',
  };
}

/** The same for what is cut short, or comes with something else in the middle: it may have happened or not, and later. */
export function applyPerhaps(
  powers: Powers,
  effect: Effect,
): { readonly powers: Powers; readonly boots: Boots } {
  const after = apply(powers, effect);
  return {
    powers: new Set([...powers, ...after.powers]),
    boots: after.boots === 'never' ? 'never' : 'may',
  };
}
