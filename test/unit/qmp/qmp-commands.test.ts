import t from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import type { JsonObject } from '../../../src/qemu/qmp-codec.ts';
import {
  balloon,
  cont,
  injectNmi,
  type QmpExecutor,
  queryBalloon,
  queryCpusFast,
  queryKvm,
  queryStatus,
  quit,
  screendump,
  stop,
  systemPowerdown,
  systemReset,
} from '../../../src/qemu/qmp-commands.ts';
import { parseVmEvent, vmEventNames } from '../../../src/qemu/qmp-events.ts';

/** Answers every command with `reply` and notes what was asked. */
function executor(reply: unknown): { asked: unknown[][]; qmp: QmpExecutor } {
  const asked: unknown[][] = [];
  const qmp = {
    execute: (command: string, args?: JsonObject) => {
      asked.push(args === undefined ? [command] : [command, args]);
      return reply instanceof Error ? Promise.reject(reply) : Promise.resolve(reply);
    },
  };
  return { asked, qmp };
}

void t.test('commands without an answer', async (t) => {
  const { asked, qmp } = executor({});
  await cont(qmp);
  await stop(qmp);
  await systemPowerdown(qmp);
  await systemReset(qmp);
  await quit(qmp);
  await injectNmi(qmp);
  await balloon(qmp, 1 << 28);
  await screendump(qmp, '/dev/fdset/1');
  t.same(asked, [
    ['cont'],
    ['stop'],
    ['system_powerdown'],
    ['system_reset'],
    ['quit'],
    ['inject-nmi'],
    ['balloon', { value: 1 << 28 }],
    ['screendump', { filename: '/dev/fdset/1', format: 'png' }],
  ]);
});

void t.test('queries keep what is used of the answer', async (t) => {
  t.same(await queryStatus(executor({ status: 'paused', running: false, singlestep: false }).qmp), {
    status: 'paused',
    running: false,
  });
  t.same(await queryKvm(executor({ enabled: false, present: true }).qmp), { enabled: false, present: true });
  t.equal(await queryBalloon(executor({ actual: 1024 }).qmp), 1024);
  const cpus = [{ 'cpu-index': 0, 'thread-id': 77, 'qom-path': '/machine' }];
  t.same(await queryCpusFast(executor(cpus).qmp), [{ cpuIndex: 0, threadId: 77 }]);
});

void t.test('an odd answer is an Internal error that shows it', async (t) => {
  for (const query of [queryStatus, queryKvm, queryBalloon, queryCpusFast]) {
    for (const reply of [null, 7, 'x', {}, [{}], [null], { status: 1 }, { enabled: true, actual: '1' }]) {
      const asked: Promise<unknown> = query(executor(reply).qmp);
      await t.rejects(asked, /QEMU answered QMP command/);
    }
  }
});

void t.test('quit takes a lost connection as obedience, and nothing else', async (t) => {
  await quit(executor(new VmError('Unavailable', 'gone')).qmp);
  await t.rejects(quit(executor(new VmError('Canceled', 'no')).qmp), new VmError('Canceled', 'no'));
});

void t.test('events', (t) => {
  const parse = (name: string, data: JsonObject): unknown => parseVmEvent({ name, data, at: 5 });
  t.same(parse('SHUTDOWN', { guest: true, reason: 'guest-shutdown' }), {
    name: 'SHUTDOWN',
    at: 5,
    guest: true,
    reason: 'guest-shutdown',
  });
  t.same(parse('GUEST_PANICKED', { action: 'pause', info: {} }), {
    name: 'GUEST_PANICKED',
    at: 5,
    action: 'pause',
  });
  t.same(
    parse('BLOCK_IO_ERROR', {
      device: '',
      'node-name': 'root',
      operation: 'write',
      action: 'stop',
      nospace: true,
      reason: 'No space left on device',
    }),
    {
      name: 'BLOCK_IO_ERROR',
      at: 5,
      device: '',
      nodeName: 'root',
      operation: 'write',
      action: 'stop',
      noSpace: true,
      reason: 'No space left on device',
    },
  );
  t.same(parse('BALLOON_CHANGE', { actual: 3 }), { name: 'BALLOON_CHANGE', at: 5, actual: 3 });
  t.equal(parse('VNC_CONNECTED', {}), undefined);
  for (const name of vmEventNames) {
    t.match(parse(name, {}), { name, at: 5 }, `${name} without data`);
    t.match(parse(name, { guest: 1, reason: [], action: null, actual: 'x', operation: {} }), { name });
  }
  t.end();
});
