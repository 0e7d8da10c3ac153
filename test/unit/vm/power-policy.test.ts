import t from 'tap';
import type { ExitReason } from '../../../src/core/exit.ts';
import { bootAfter, judge } from '../../../src/vm/power-policy.ts';

const usual = { onPoweroff: 'exit', onReboot: 'restart', onCrash: 'exit' } as const;
const times = { shortLives: 0, bootedAt: 0, at: 1_000 };
const reasons: Readonly<Record<'poweroff' | 'reboot' | 'panic' | 'crash' | 'error' | 'memory', ExitReason>> =
  {
    poweroff: { kind: 'guest-shutdown' },
    reboot: { kind: 'guest-reset' },
    panic: { kind: 'guest-panic' },
    crash: { kind: 'crashed', signal: 11 },
    error: { kind: 'qemu-error', code: 1, message: 'no' },
    memory: { kind: 'out-of-memory' },
  };

void t.test('each kind of end has its policy', (t) => {
  const all = { onPoweroff: 'hold', onReboot: 'hold', onCrash: 'hold' } as const;
  for (const reason of Object.values(reasons)) {
    t.equal(judge(reason, all, times).verdict.t, 'hold');
  }
  t.equal(judge(reasons.poweroff, usual, times).verdict.t, 'exit');
  t.equal(judge(reasons.panic, usual, times).verdict.t, 'exit');
  t.match(judge(reasons.reboot, { ...usual, onReboot: 'hold' }, times).verdict, {
    t: 'hold',
    why: 'the guest rebooted',
  });
  t.match(judge(reasons.panic, all, times).verdict, { why: 'the guest kernel panicked' });
  for (const name of ['panic', 'crash', 'error', 'memory'] as const)
    t.same(judge(reasons[name], { ...all, onCrash: 'restart' }, times).verdict.t, 'boot', name);
  t.equal(judge({ kind: 'killed', signal: 9 }, all, times).verdict.t, 'exit', 'somebody wanted it');
  t.end();
});

void t.test('the first boot follows at once, the next ones after 10 s, 20 s … 5 minutes', (t) => {
  const policy = { ...usual, onCrash: 'restart' } as const;
  const waits: number[] = [];
  let shortLives = 0;
  for (let round = 0; round < 8; round++) {
    const judged = judge(reasons.panic, policy, { shortLives, bootedAt: 0, at: 1_000 });
    ({ shortLives } = judged);
    if (judged.verdict.t === 'boot') waits.push(judged.verdict.at - 1_000);
  }
  t.same(waits, [0, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]);
  t.match(bootAfter('the guest kernel panicked', 3, 0), {
    why: 'the guest kernel panicked, 3 times soon after a boot; it boots again at 1970-01-01T00:00:20.000Z',
  });
  const long = judge(reasons.panic, policy, { shortLives, bootedAt: 0, at: 600_000 });
  t.same(long, {
    verdict: { t: 'boot', at: 600_000, why: 'the guest kernel panicked' },
    shortLives: 0,
  });
  t.end();
});
