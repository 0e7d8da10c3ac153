import t from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import type { MachineParts } from '../../../src/vm/machine-parts.ts';
import { Machine } from '../../../src/vm/machine.ts';
import { Timeline } from '../../../src/vm/timeline.ts';

type Press = (signal: AbortSignal) => Promise<unknown>;

/** A running machine whose QMP connection answers a press of the power button so. */
async function running(press: Press): Promise<Machine> {
  const qmp = {
    onEvent: () => ({ [Symbol.dispose]: () => undefined }),
    execute: (command: string, _args: object, { signal }: { signal: AbortSignal }) =>
      command === 'system_powerdown' ? press(signal) : Promise.resolve({}),
  };
  const parts = {
    spec: { id: 'vm' },
    timeline: new Timeline(),
    log: { warn: () => undefined },
    qemu: { pid: 1, qmp, exited: new Promise(() => undefined) },
  };
  const machine = new Machine(parts as unknown as MachineParts);
  await machine.start(new AbortController().signal);
  return machine;
}

const signal = new AbortController().signal;
const SIGTERM = 15;

void t.test(
  'a power button that is pressed while QEMU ends finds nobody, as for a process that has ended',
  async (t) => {
    const machine = await running(() =>
      Promise.reject(new VmError('Unavailable', 'the QMP connection is closed')),
    );
    await t.rejects(machine.signal(SIGTERM, signal), {
      kind: 'NotFound',
      message: 'process already finished',
    });
  },
);

void t.test('what else goes wrong with it is told', async (t) => {
  const machine = await running(() => Promise.reject(new VmError('DeadlineExceeded', 'no answer')));
  await t.rejects(machine.signal(SIGTERM, signal), { kind: 'DeadlineExceeded', message: 'no answer' });
});

/** What a QMP call does that is never answered. */
const unanswered: Press = (given) =>
  new Promise((_, reject) =>
    given.addEventListener('abort', () => reject(VmError.from(given.reason, 'QMP'))),
  );

void t.test('a QEMU that hangs keeps nobody waiting, who could go on to kill it', async (t) => {
  // The one that a deadline has does not keep Node alive, as the connection to QEMU does.
  const alive = setInterval(() => undefined, 60_000);
  t.teardown(() => clearInterval(alive));
  const machine = await running(unanswered);
  await machine.signal(SIGTERM, signal);
  const caller = new AbortController();
  const asked = machine.signal(SIGTERM, caller.signal);
  caller.abort();
  await t.rejects(asked, { kind: 'Canceled', message: /QMP/ }, 'a caller that gives up is told so');
});
