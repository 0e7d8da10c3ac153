import t from 'tap';
import type { TaskExit } from '../../../src/core/exit.ts';
import { readiness } from '../../../src/shim/sandbox-calls.ts';
import { next, type SandboxEvent, type SandboxState } from '../../../src/shim/sandbox-state.ts';

const createdAt = 7;
const exit: TaskExit = { status: 143, at: 9, reason: { kind: 'killed', signal: 15 } };
const created: SandboxState = { t: 'created', createdAt };
const ready: SandboxState = { t: 'ready', createdAt };
const stopping: SandboxState = { t: 'stopping', createdAt };
const stopped: SandboxState = { t: 'stopped', createdAt, exit };

const started: SandboxEvent = { t: 'started' };
const stopBegun: SandboxEvent = { t: 'stop-begun' };
const ended: SandboxEvent = { t: 'ended', exit };

/** Every state with every event. */
const TABLE: readonly (readonly [SandboxState, SandboxEvent, SandboxState])[] = [
  [created, started, ready],
  [created, stopBegun, stopping],
  [created, ended, stopped],
  [ready, started, ready],
  [ready, stopBegun, stopping],
  [ready, ended, stopped],
  [stopping, started, stopping],
  [stopping, stopBegun, stopping],
  [stopping, ended, stopped],
  [stopped, started, stopped],
  [stopped, stopBegun, stopped],
  [stopped, { t: 'ended', exit: { ...exit, at: 10 } }, stopped],
];

void t.test('the life of a sandbox', (t) => {
  for (const [state, event, after] of TABLE) t.same(next(state, event), after, `${state.t}, ${event.t}`);
  t.end();
});

void t.test('the words that containerd reads', (t) => {
  t.same([created, ready, stopping, stopped].map(readiness), [
    'SANDBOX_NOTREADY',
    'SANDBOX_READY',
    'SANDBOX_NOTREADY',
    'SANDBOX_NOTREADY',
  ]);
  t.end();
});
