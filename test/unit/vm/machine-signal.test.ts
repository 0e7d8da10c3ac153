import t from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import { Machine, type MachineParts } from '../../../src/vm/machine.ts';
import { Timeline } from '../../../src/vm/timeline.ts';

/** A running machine whose QMP connection answers a press of the power button with `failure`. */
async function running(failure: VmError): Promise<Machine> {
  const qmp = {
    onEvent: () => ({ [Symbol.dispose]: () => undefined }),
    execute: (command: string) =>
      command === 'system_powerdown' ? Promise.reject(failure) : Promise.resolve({}),
  };
  const parts = {
    spec: { id: 'vm' },
    timeline: new Timeline(),
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
    const machine = await running(new VmError('Unavailable', 'the QMP connection is closed'));
    await t.rejects(machine.signal(SIGTERM, signal), {
      kind: 'NotFound',
      message: 'process already finished',
    });
  },
);

void t.test('what else goes wrong with it is told', async (t) => {
  const machine = await running(new VmError('DeadlineExceeded', 'no answer'));
  await t.rejects(machine.signal(SIGTERM, signal), { kind: 'DeadlineExceeded', message: 'no answer' });
});
