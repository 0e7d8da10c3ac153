import type { Action, Scene } from './action.ts';
import { POWER, type PowerVerb } from './power-model.ts';

/**
 * What an operator asks of a VM's power, by whatever way.
 *
 * @param ask gives the order; `refused` says that it makes no sense whatever the VM may be, and has to be refused: while something
 * else is done to it, it may be what it is not as far as we know
 */
export function powerAction(verb: PowerVerb, ask: (scene: Scene, refused: boolean) => Promise<void>): Action {
  const effect = POWER[verb];
  return {
    fault: false,
    boots: 'may',
    power: effect,
    starts: ['start', 'reset', 'reboot'].includes(verb),
    besides: verb === 'stop' || verb === 'reset' || verb === 'pause',
    run: (scene) =>
      ask(
        scene,
        [...scene.before].every((power) => effect(power) === undefined),
      ),
  };
}
