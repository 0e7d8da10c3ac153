import fc from 'fast-check';
import t from 'tap';
import {
  expectState,
  isStalled,
  type MachineEvent,
  type MachineState,
  next,
} from '../../../src/vm/machine-state.ts';

const exit = { status: 137, at: 9, reason: { kind: 'killed', signal: 9 } } as const;
const trouble = {
  disk: 'root',
  operation: 'write',
  reason: 'No space left on device',
  noSpace: true,
  since: 3,
  errors: 1,
} as const;
const states = {
  creating: { t: 'creating' },
  prelaunch: { t: 'prelaunch', pid: 1 },
  running: { t: 'running', pid: 1, startedAt: 5 },
  paused: { t: 'paused', pid: 1, startedAt: 5, asked: false, trouble: undefined },
  ending: { t: 'ending', pid: 1 },
  exited: { t: 'exited', pid: 1, exit: { ...exit, status: 0 } },
} as const satisfies { readonly [T in MachineState['t']]: MachineState };
const events = {
  spawned: { t: 'spawned', pid: 1 },
  continued: { t: 'continued', at: 5 },
  stopped: { t: 'stopped' },
  'pause-asked': { t: 'pause-asked' },
  'io-failed': { t: 'io-failed', trouble },
  'end-begun': { t: 'end-begun' },
  'process-exited': { t: 'process-exited', exit },
} as const satisfies { readonly [T in MachineEvent['t']]: MachineEvent };

const exitedWith = (pid: number): MachineState => ({ t: 'exited', pid, exit });

/** Where each state goes with each event; what is not named stays. */
const table: { readonly [S in MachineState['t']]: { readonly [E in MachineEvent['t']]?: MachineState } } = {
  creating: { spawned: states.prelaunch, 'process-exited': exitedWith(0) },
  prelaunch: { continued: states.running, 'end-begun': states.ending, 'process-exited': exitedWith(1) },
  running: { stopped: states.paused, 'end-begun': states.ending, 'process-exited': exitedWith(1) },
  paused: {
    continued: states.running,
    'pause-asked': { ...states.paused, asked: true },
    'io-failed': { ...states.paused, trouble },
    'end-begun': states.ending,
    'process-exited': exitedWith(1),
  },
  ending: { 'process-exited': exitedWith(1) },
  exited: {},
};

void t.test('every state with every event', (t) => {
  for (const state of Object.values(states)) {
    for (const event of Object.values(events)) {
      t.same(next(state, event), table[state.t][event.t] ?? state, `${state.t} + ${event.t}`);
    }
  }
  t.end();
});

void t.test('a resumed machine keeps the time at which it was started', (t) => {
  t.same(next(states.paused, { t: 'continued', at: 99 }), { t: 'running', pid: 1, startedAt: 5 });
  t.end();
});

void t.test(
  'a pause that was asked for and a disk that fails come in either order, and end together',
  (t) => {
    const stopped = next(states.running, events.stopped);
    const both = { ...states.paused, asked: true, trouble };
    t.same(next(next(stopped, events['pause-asked']), events['io-failed']), both);
    t.same(next(next(stopped, events['io-failed']), events['pause-asked']), both);
    t.same(next(both, events.continued), states.running);
    t.same([stopped, both, next(stopped, events['io-failed'])].map(isStalled), [false, false, true]);
    t.end();
  },
);

void t.test('whatever happens, an end is an end and a pid stays', (t) => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...Object.values(events))), (sequence) => {
      let state: MachineState = states.creating;
      for (const event of sequence) {
        const after = next(state, event);
        if (state.t === 'exited' && after !== state) return false;
        if ('pid' in state && 'pid' in after && state.pid !== after.pid) return false;
        if (state.t === 'ending' && after.t !== 'ending' && after.t !== 'exited') return false;
        state = after;
      }
      return true;
    }),
  );
  t.end();
});

void t.test('expectState', (t) => {
  t.equal(expectState(states.running, 'pause', 'running', 'paused').startedAt, 5);
  const message = (state: MachineState, ...allowed: MachineState['t'][]): string => {
    try {
      expectState(state, 'pause', ...allowed);
    } catch (error) {
      t.match(error, { kind: 'FailedPrecondition' });
      return (error as Error).message;
    }
    throw new Error('it was allowed');
  };
  t.equal(message(states.prelaunch, 'running'), 'cannot pause: the VM is created, it must be running');
  t.equal(
    message(states.exited, 'running', 'paused'),
    'cannot pause: the VM is stopped, it must be running or paused',
  );
  t.equal(message(states.ending, 'prelaunch'), 'cannot pause: the VM is stopping, it must be created');
  t.equal(message(states.creating, 'exited'), 'cannot pause: the VM is creating, it must be stopped');
  t.end();
});
