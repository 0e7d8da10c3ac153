import type { TaskExit } from '../core/exit.ts';
import type { Verdict } from './power-policy.ts';

/**
 * Whether a VM is switched on, which is not the life of one QEMU (`MachineState`): a VM has one QEMU after another while
 * containerd sees one running task. Only data, so that a successor of this process could take it over. Times are
 * milliseconds since the epoch.
 */
export type PowerState =
  /** There is a QEMU; its machine's state tells what the guest does. */
  | {
      readonly t: 'on';
      readonly since: number;
      /** An operator has paused it, which is no affair of containerd's. */
      readonly held: boolean;
      readonly ending: Ending;
    }
  /** QEMU is to end: the guest was asked, or is being killed. */
  | {
      readonly t: 'stopping';
      readonly since: number;
      readonly then: 'off' | 'boot';
      readonly why: string;
      readonly ending: Ending;
    }
  /** No QEMU. */
  | {
      readonly t: 'off';
      readonly since: number;
      readonly why: string;
      /** When it boots by itself. */
      readonly bootAt: number | undefined;
    }
  /** A QEMU is being made. */
  | { readonly t: 'starting'; readonly since: number; readonly ending: Ending }
  /** The task has ended, for good. */
  | { readonly t: 'ended'; readonly exit: TaskExit };

/**
 * Set when containerd wants the task's end: then QEMU's next exit is the task's, whatever operators and policies say. It
 * carries what the exit is where no QEMU ends any more.
 */
type Ending = TaskExit | undefined;

export type PowerEvent =
  | { readonly t: 'held'; readonly held: boolean }
  | {
      readonly t: 'stop-asked';
      readonly then: 'off' | 'boot';
      readonly why: string;
      readonly at: number;
    }
  | { readonly t: 'end-asked'; readonly exit: TaskExit }
  /** The kernel has told of QEMU's end; `verdict` is what becomes of it where nobody has asked for it. */
  | {
      readonly t: 'machine-ended';
      readonly exit: TaskExit;
      readonly verdict: Verdict;
      readonly at: number;
    }
  | { readonly t: 'boot-asked'; readonly at: number }
  | { readonly t: 'booted'; readonly at: number }
  /** `exit` is the task's, if that is to end. */
  | {
      readonly t: 'boot-failed';
      readonly why: string;
      readonly bootAt: number | undefined;
      readonly at: number;
    };

/** The one transition function, total over states and events: an event that means nothing in a state leaves it as it is. */
export function nextPower(state: PowerState, event: PowerEvent): PowerState {
  if (state.t === 'ended') return state;
  switch (event.t) {
    case 'held':
      return state.t === 'on' && state.held !== event.held ? { ...state, held: event.held } : state;
    case 'stop-asked':
      return stopAsked(state, event);
    case 'end-asked':
      if (state.t === 'off') return { t: 'ended', exit: event.exit };
      return state.ending === undefined ? { ...state, ending: event.exit } : state;
    case 'machine-ended':
      return machineEnded(state, event);
    case 'boot-asked':
      return state.t === 'off' ? { t: 'starting', since: event.at, ending: undefined } : state;
    case 'booted':
      return state.t === 'starting' ? { t: 'on', since: event.at, held: false, ending: state.ending } : state;
    case 'boot-failed':
      if (state.t !== 'starting') return state;
      if (state.ending !== undefined) return { t: 'ended', exit: state.ending };
      return { t: 'off', since: event.at, why: event.why, bootAt: event.bootAt };
  }
}

type Alive = Exclude<PowerState, { t: 'ended' }>;

function stopAsked(state: Alive, { then, why, at }: Extract<PowerEvent, { t: 'stop-asked' }>): PowerState {
  switch (state.t) {
    case 'on':
      return { t: 'stopping', since: at, then, why, ending: state.ending };
    case 'stopping':
      return { ...state, then, why };
    case 'off':
      // One that would boot by itself stays off from now on.
      return then === 'off' ? { ...state, why, bootAt: undefined } : state;
    case 'starting':
      return state;
  }
}

function machineEnded(
  state: Alive,
  { exit, verdict, at }: Extract<PowerEvent, { t: 'machine-ended' }>,
): PowerState {
  if (state.t === 'off' || state.t === 'starting') return state;
  if (state.ending !== undefined) return { t: 'ended', exit };
  const starting = { t: 'starting', since: at, ending: undefined } as const;
  if (state.t === 'stopping')
    return state.then === 'boot' ? starting : { t: 'off', since: at, why: state.why, bootAt: undefined };
  switch (verdict.t) {
    case 'exit':
      return { t: 'ended', exit };
    case 'hold':
      return { t: 'off', since: at, why: verdict.why, bootAt: undefined };
    case 'boot':
      return verdict.at <= at ? starting : { t: 'off', since: at, why: verdict.why, bootAt: verdict.at };
  }
}

/** Such as `off: an operator stopped it`. */
export function describePower(state: PowerState): string {
  switch (state.t) {
    case 'on':
      return state.held ? 'paused' : 'on';
    case 'off':
      return `off: ${state.why}`;
    case 'stopping':
    case 'starting':
      return state.t;
    case 'ended':
      // containerd's word for a task without a process.
      return 'stopped';
  }
}
