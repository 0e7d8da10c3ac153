import type { TaskExit } from '../core/exit.ts';
import { VmError } from '../core/errors.ts';
import type { IoTrouble } from './io-trouble.ts';

/**
 * The life of one QEMU process. Every case carries exactly what exists in it and nothing else, and only data, so that
 * a successor of this process could take it over.
 */
export type MachineState =
  /** Resources are being acquired; there may or may not be a process yet. */
  | { readonly t: 'creating' }
  /** QEMU is up with `-S`: placed, not yet running a guest instruction. */
  | { readonly t: 'prelaunch'; readonly pid: number }
  | { readonly t: 'running'; readonly pid: number; readonly startedAt: number }
  | {
      readonly t: 'paused';
      readonly pid: number;
      readonly startedAt: number;
      /** Somebody asked for it, and has to ask for its end. */
      readonly asked: boolean;
      /** The guest's disk does not work: alone a reason to stop, or what a guest that was paused met meanwhile. */
      readonly trouble: IoTrouble | undefined;
    }
  /** The guest is down or we asked QEMU to go; its process has not ended yet. */
  | { readonly t: 'ending'; readonly pid: number }
  | { readonly t: 'exited'; readonly pid: number; readonly exit: TaskExit };

export type MachineEvent =
  | { readonly t: 'spawned'; readonly pid: number }
  | { readonly t: 'continued'; readonly at: number }
  | { readonly t: 'stopped' }
  | { readonly t: 'pause-asked' }
  | { readonly t: 'io-failed'; readonly trouble: IoTrouble }
  | { readonly t: 'end-begun' }
  | { readonly t: 'process-exited'; readonly exit: TaskExit };

/**
 * The one transition function: total over states and events. An event that means nothing in a state leaves it as it is
 * (QEMU repeats STOP and RESUME, and the kernel may tell of the exit before QMP tells of the shutdown).
 */
export function next(state: MachineState, event: MachineEvent): MachineState {
  if (state.t === 'exited') return state;
  switch (event.t) {
    case 'spawned':
      return state.t === 'creating' ? { t: 'prelaunch', pid: event.pid } : state;
    case 'continued':
      if (state.t === 'prelaunch') return { t: 'running', pid: state.pid, startedAt: event.at };
      return state.t === 'paused' ? { t: 'running', pid: state.pid, startedAt: state.startedAt } : state;
    case 'stopped':
      return state.t === 'running' ? { ...state, t: 'paused', asked: false, trouble: undefined } : state;
    case 'pause-asked':
      return state.t === 'paused' ? { ...state, asked: true } : state;
    case 'io-failed':
      return state.t === 'paused' ? { ...state, trouble: event.trouble } : state;
    case 'end-begun':
      return state.t === 'creating' ? state : { t: 'ending', pid: state.pid };
    case 'process-exited':
      return { t: 'exited', pid: state.t === 'creating' ? 0 : state.pid, exit: event.exit };
  }
}

/** The guest stands still although nobody asked for it: its storage does not work. */
export function isStalled(state: MachineState): state is Extract<MachineState, { t: 'paused' }> {
  return state.t === 'paused' && !state.asked && state.trouble !== undefined;
}

type StateOf<T extends MachineState['t']> = Extract<MachineState, { t: T }>;

/**
 * The state's payload if it is one of those an operation may run in.
 * @throws VmError FailedPrecondition naming the operation, the state it is in and the states it may run in.
 */
export function expectState<T extends MachineState['t']>(
  state: MachineState,
  operation: string,
  ...allowed: T[]
): StateOf<T> {
  if ((allowed as string[]).includes(state.t)) return state as StateOf<T>;
  throw new VmError(
    'FailedPrecondition',
    `cannot ${operation}: the VM is ${describe(state.t)}, it must be ${allowed.map(describe).join(' or ')}`,
  );
}

function describe(t: MachineState['t']): string {
  switch (t) {
    case 'prelaunch':
      return 'created';
    case 'ending':
      return 'stopping';
    case 'exited':
      return 'stopped';
    case 'creating':
    case 'running':
    case 'paused':
      return t;
  }
}
