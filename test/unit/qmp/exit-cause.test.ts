import t from 'tap';
import { describeExit, type ExitReason, exitStatus } from '../../../src/core/exit.ts';
import type { ProcessExit } from '../../../src/host/host.ts';
import { exitReason, noExitEvidence, noteExitEvent } from '../../../src/qemu/exit-cause.ts';
import type { VmEvent } from '../../../src/qemu/qmp-events.ts';

const at = 0;
const guestOff: VmEvent = { name: 'SHUTDOWN', at, guest: true, reason: 'guest-shutdown' };
const guestReset: VmEvent = { name: 'SHUTDOWN', at, guest: true, reason: 'guest-reset' };
const panicOff: VmEvent = { name: 'SHUTDOWN', at, guest: true, reason: 'guest-panic' };
const panicked: VmEvent = { name: 'GUEST_PANICKED', at, action: 'pause' };
const quit: VmEvent = { name: 'SHUTDOWN', at, guest: false, reason: 'host-qmp-quit' };
const hostSignal: VmEvent = { name: 'SHUTDOWN', at, guest: false, reason: 'host-signal' };
const reset: VmEvent = { name: 'RESET', at, guest: true, reason: 'guest-reset' };
const stop: VmEvent = { name: 'STOP', at };

const ok: ProcessExit = { kind: 'exited', code: 0 };
const failed: ProcessExit = { kind: 'exited', code: 1 };
const by = (signal: number): ProcessExit => ({ kind: 'signaled', signal });
const terminated = 'terminating on signal 15 from pid 77 (bash)';

interface Row {
  readonly name: string;
  readonly exit: ProcessExit;
  readonly events?: readonly VmEvent[];
  readonly asked?: number;
  readonly oom?: boolean;
  readonly log?: readonly string[];
  readonly reason: ExitReason;
}

const table: readonly Row[] = [
  {
    name: 'guest powered off, we quit QEMU',
    exit: ok,
    events: [guestOff, stop, quit],
    reason: { kind: 'guest-shutdown' },
  },
  {
    name: 'guest powered off on SIGTERM',
    exit: ok,
    events: [guestOff, quit],
    asked: 15,
    reason: { kind: 'guest-shutdown' },
  },
  {
    name: 'guest powered off, QEMU then hung and we killed it',
    exit: by(9),
    events: [guestOff],
    reason: { kind: 'guest-shutdown' },
  },
  {
    name: 'guest powered off, QEMU then crashed',
    exit: by(11),
    events: [guestOff],
    reason: { kind: 'guest-shutdown' },
  },
  {
    name: 'guest off, a caller kills what is left',
    exit: by(9),
    events: [guestOff],
    asked: 9,
    reason: { kind: 'killed', signal: 9 },
  },
  {
    name: 'guest off, booted again, crash',
    exit: by(11),
    events: [guestOff, reset],
    reason: { kind: 'crashed', signal: 11 },
  },
  {
    name: 'guest rebooted under -no-reboot',
    exit: ok,
    events: [guestReset],
    reason: { kind: 'guest-reset' },
  },
  {
    name: 'panic, paused, we quit',
    exit: ok,
    events: [panicked, stop, quit],
    reason: { kind: 'guest-panic' },
  },
  {
    name: 'panic ends QEMU by itself',
    exit: ok,
    events: [panicked, panicOff],
    reason: { kind: 'guest-panic' },
  },
  {
    name: 'panic event lost, its shutdown seen',
    exit: ok,
    events: [panicOff],
    reason: { kind: 'guest-panic' },
  },
  { name: 'panic=exit-failure', exit: failed, events: [panicked, panicOff], reason: { kind: 'guest-panic' } },
  {
    name: 'panic, the crash kernel powers off',
    exit: ok,
    events: [panicked, guestOff, quit],
    reason: { kind: 'guest-panic' },
  },
  {
    name: 'panic, rebooted, powered off',
    exit: ok,
    events: [panicked, reset, guestOff],
    reason: { kind: 'guest-shutdown' },
  },
  {
    name: 'panic, a caller kills',
    exit: by(9),
    events: [panicked],
    asked: 9,
    reason: { kind: 'killed', signal: 9 },
  },
  { name: 'killed on request', exit: by(9), asked: 9, reason: { kind: 'killed', signal: 9 } },
  {
    name: 'killed on request while out of memory',
    exit: by(9),
    asked: 9,
    oom: true,
    reason: { kind: 'killed', signal: 9 },
  },
  {
    name: 'SIGTERM asked, guest did not react, grace over',
    exit: by(9),
    asked: 15,
    reason: { kind: 'killed', signal: 9 },
  },
  {
    name: 'SIGTERM asked, out of memory first',
    exit: by(9),
    asked: 15,
    oom: true,
    reason: { kind: 'out-of-memory' },
  },
  {
    name: 'SIGTERM asked, QEMU quit',
    exit: ok,
    events: [quit],
    asked: 15,
    reason: { kind: 'killed', signal: 15 },
  },
  { name: 'SIGTERM asked, QEMU crashed', exit: by(11), asked: 15, reason: { kind: 'crashed', signal: 11 } },
  { name: 'out of memory', exit: by(9), oom: true, reason: { kind: 'out-of-memory' } },
  { name: 'killed by nobody we know', exit: by(9), reason: { kind: 'crashed', signal: 9 } },
  { name: 'crash while out of memory', exit: by(11), oom: true, reason: { kind: 'crashed', signal: 11 } },
  { name: 'seccomp', exit: by(31), reason: { kind: 'crashed', signal: 31 } },
  {
    name: 'SIGTERM by somebody else',
    exit: ok,
    events: [hostSignal],
    reason: { kind: 'crashed', signal: 15 },
  },
  {
    name: 'SIGINT by somebody else',
    exit: ok,
    events: [hostSignal],
    log: ['terminating on signal 2'],
    reason: { kind: 'crashed', signal: 2 },
  },
  {
    name: 'SIGTERM by somebody else, QMP lost',
    exit: ok,
    log: ['x', terminated],
    reason: { kind: 'crashed', signal: 15 },
  },
  {
    name: 'refused to go on',
    exit: failed,
    log: ['first', 'last'],
    reason: { kind: 'qemu-error', code: 1, message: 'last' },
  },
  {
    name: 'refused in silence',
    exit: failed,
    reason: { kind: 'qemu-error', code: 1, message: 'it left nothing in its log' },
  },
  {
    name: 'refused although a signal was asked',
    exit: failed,
    asked: 15,
    log: ['x'],
    reason: { kind: 'qemu-error', code: 1, message: 'x' },
  },
  {
    name: 'somebody else’s quit',
    exit: ok,
    events: [quit],
    reason: { kind: 'qemu-error', code: 0, message: 'a QMP client other than the shim told it to quit' },
  },
  {
    name: 'host error',
    exit: ok,
    events: [{ ...quit, reason: 'host-error' }],
    reason: { kind: 'qemu-error', code: 0, message: 'host-error' },
  },
  {
    name: 'gone without a word',
    exit: ok,
    reason: { kind: 'qemu-error', code: 0, message: 'it left nothing in its log' },
  },
];

for (const { name, exit, events = [], asked, oom = false, log = [], reason } of table) {
  void t.test(name, (t) => {
    const facts = { exit, requestedSignal: asked, oomKilled: oom, logTail: log };
    t.same(exitReason({ ...facts, evidence: events.reduce(noteExitEvent, noExitEvidence) }), reason);
    const twice = events.flatMap((event) => [event, event]);
    t.same(
      exitReason({ ...facts, evidence: twice.reduce(noteExitEvent, noExitEvidence) }),
      reason,
      'repeated events',
    );
    t.equal(exitStatus(reason) === 0, reason.kind === 'guest-shutdown' || reason.kind === 'guest-reset');
    t.not(describeExit(reason), '');
    t.end();
  });
}
