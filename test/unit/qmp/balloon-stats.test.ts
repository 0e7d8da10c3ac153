import t from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import { askGuestMemory } from '../../../src/qemu/balloon-stats.ts';
import type { QmpExecutor } from '../../../src/qemu/qmp-commands.ts';

const NONE = 2 ** 64;

/** A QEMU whose guest answers on the `answers`th look after the question. */
function fake(answers: number): { qmp: QmpExecutor; intervals: unknown[] } {
  const intervals: unknown[] = [];
  let looks = -1;
  const execute = (command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> => {
    if (command === 'qom-set') {
      intervals.push(args['value']);
      looks = 0;
      return Promise.resolve({});
    }
    const told = looks >= 0 && looks++ >= answers;
    const stats = {
      'stat-free-memory': told ? 5 : NONE,
      'stat-total-memory': told ? 0 : NONE,
      'stat-swap-in': NONE,
    };
    return Promise.resolve({ stats, 'last-update': told ? 1_700_000_000 : 0 });
  };
  return { qmp: { execute }, intervals };
}

void t.test('the guest is asked once, and its answer waited for', async (t) => {
  for (const answers of [0, 3]) {
    const { qmp, intervals } = fake(answers);
    const memory = await askGuestMemory(qmp);
    t.match(memory, { free: 5, total: 0, swappedIn: undefined, available: undefined });
    t.same(intervals, [86_400, 0], 'and not again');
  }
});

void t.test('a guest without a driver, and a machine without a balloon', async (t) => {
  const { qmp, intervals } = fake(Infinity);
  t.equal(await askGuestMemory(qmp), undefined);
  t.same(intervals, [86_400, 0]);
  const failing = (error: Error): QmpExecutor => ({ execute: () => Promise.reject(error) });
  t.equal(await askGuestMemory(failing(new VmError('NotFound', 'no balloon'))), undefined);
  await t.rejects(askGuestMemory(failing(new VmError('Unavailable', 'gone'))), {
    name: 'VmError',
    kind: 'Unavailable',
  });
});
