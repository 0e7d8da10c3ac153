import fc from 'fast-check';
import t from 'tap';
import { nextPower, type PowerEvent, type PowerState } from '../../../src/vm/power-state.ts';

const exit = { status: 0, at: 9, reason: { kind: 'guest-shutdown' } } as const;
const asked = { status: 137, at: 8, reason: { kind: 'killed', signal: 9 } } as const;
const on: PowerState = { t: 'on', since: 1, held: false, ending: undefined };
const stopping: PowerState = { t: 'stopping', since: 2, then: 'off', why: 'stopped', ending: undefined };
const rebooting: PowerState = { ...stopping, then: 'boot', why: 'rebooted' };
const off: PowerState = { t: 'off', since: 3, why: 'stopped', bootAt: undefined };
const waiting: PowerState = { t: 'off', since: 3, why: 'crashed', bootAt: 100 };
const starting: PowerState = { t: 'starting', since: 4, ending: undefined };
const ended: PowerState = { t: 'ended', exit };
const states = { on, stopping, rebooting, off, waiting, starting, ended };

const verdicts = {
  exit: { t: 'exit' },
  hold: { t: 'hold', why: 'powered off' },
  boot: { t: 'boot', at: 50, why: 'crashed' },
  'boot-later': { t: 'boot', at: 99, why: 'crashed often' },
} as const;
const events = {
  held: { t: 'held', held: true },
  'let-go': { t: 'held', held: false },
  stop: { t: 'stop-asked', then: 'off', why: 'stopped', at: 50 },
  reboot: { t: 'stop-asked', then: 'boot', why: 'rebooted', at: 50 },
  end: { t: 'end-asked', exit: asked },
  exit: { t: 'machine-ended', exit, verdict: verdicts.exit, at: 50 },
  hold: { t: 'machine-ended', exit, verdict: verdicts.hold, at: 50 },
  crash: { t: 'machine-ended', exit, verdict: verdicts.boot, at: 50 },
  crashes: { t: 'machine-ended', exit, verdict: verdicts['boot-later'], at: 50 },
  start: { t: 'boot-asked', at: 50 },
  booted: { t: 'booted', at: 50 },
  failed: { t: 'boot-failed', why: 'no disk', bootAt: undefined, at: 50 },
} as const satisfies Readonly<Record<string, PowerEvent>>;

const startingNow: PowerState = { t: 'starting', since: 50, ending: undefined };
const offNow = (why: string, bootAt?: number): PowerState => ({ t: 'off', since: 50, why, bootAt });
const quit = (state: PowerState): PowerState => ({ ...state, ending: asked }) as PowerState;

/** Where each state goes with each event; what is not named stays. */
const table: {
  readonly [S in keyof typeof states]: { readonly [E in keyof typeof events]?: PowerState };
} = {
  on: {
    held: { ...on, held: true },
    stop: { ...stopping, since: 50 },
    reboot: { ...rebooting, since: 50 },
    end: quit(on),
    exit: ended,
    hold: offNow('powered off'),
    crash: startingNow,
    crashes: offNow('crashed often', 99),
  },
  stopping: {
    reboot: rebooting,
    end: quit(stopping),
    exit: offNow('stopped'),
    hold: offNow('stopped'),
    crash: offNow('stopped'),
    crashes: offNow('stopped'),
  },
  rebooting: {
    stop: stopping,
    end: quit(rebooting),
    exit: startingNow,
    hold: startingNow,
    crash: startingNow,
    crashes: startingNow,
  },
  off: { end: { t: 'ended', exit: asked }, start: startingNow },
  waiting: {
    stop: { ...waiting, why: 'stopped', bootAt: undefined },
    end: { t: 'ended', exit: asked },
    start: startingNow,
  },
  starting: { end: quit(starting), booted: { ...on, since: 50 }, failed: offNow('no disk') },
  ended: {},
};

void t.test('every state with every event', (t) => {
  for (const [name, state] of Object.entries(states) as [keyof typeof states, PowerState][]) {
    for (const [what, event] of Object.entries(events) as [keyof typeof events, PowerEvent][])
      t.same(nextPower(state, event), table[name][what] ?? state, `${name} + ${what}`);
  }
  t.end();
});

void t.test('what containerd wants to end ends with the next exit, whatever else is asked', (t) => {
  for (const state of [on, stopping, rebooting]) {
    for (const event of [events.exit, events.hold, events.crash, events.crashes])
      t.same(nextPower(nextPower(state, events.end), event), { t: 'ended', exit });
  }
  t.same(nextPower(nextPower(starting, events.end), events.failed), { t: 'ended', exit: asked });
  const late = nextPower(nextPower(starting, events.end), events.booted);
  t.match(late, { t: 'on', ending: asked }, 'one that has booted all the same is to be killed');
  t.same(nextPower(late, events.crash), { t: 'ended', exit });
  t.equal(nextPower(nextPower(on, events.end), events.end).t, 'on', 'the first exit asked for stays');
  t.end();
});

void t.test('whatever happens: no way leads back from the end, and only data is kept', (t) => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...Object.values(events)), { maxLength: 30 }), (list) => {
      let state: PowerState = on;
      let wanted = false;
      for (const event of list) {
        const before: PowerState = state;
        state = nextPower(before, event);
        wanted ||= event.t === 'end-asked';
        if (before.t === 'ended' && state !== before) return false;
        // A task that is to end is never off: nobody would end it.
        if (wanted && state.t === 'off') return false;
        const copy = JSON.parse(JSON.stringify(state)) as object;
        if (JSON.stringify(copy) !== JSON.stringify(state)) return false;
      }
      return true;
    }),
  );
  t.end();
});
