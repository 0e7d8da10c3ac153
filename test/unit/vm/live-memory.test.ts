import t from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import { askedMemory, LiveMemory } from '../../../src/vm/live-memory.ts';
import { recordingLogger } from '../../support/recording-logger.ts';

const MIB = 2 ** 20;
const signal = new AbortController().signal;

/** A machine of 256 MiB that can have 1024, of which the books have `free` left. */
function lab({ free = 1024, held = 0, plugged = { requested: 0, size: 0 } } = {}) {
  const trace: string[] = [];
  const log = recordingLogger();
  const node = { free, broken: false };
  const memory = new LiveMemory({
    id: 'vm',
    log,
    base: 256 * MIB,
    room: 768 * MIB,
    plugged: { requested: plugged.requested * MIB, size: plugged.size * MIB },
    held: held * MIB,
    changed: () => undefined,
    qmp: {
      execute: async (command, args) => {
        await Promise.resolve();
        if (node.broken) throw new VmError('Unavailable', 'QEMU is gone');
        trace.push(`${command} ${(args?.['value'] as number) / MIB}`);
        return {};
      },
    },
    hold: {
      claim: async (bytes) => {
        await Promise.resolve();
        if (bytes > node.free * MIB) throw new VmError('ResourceExhausted', 'the node is full');
        trace.push(`claim ${bytes / MIB}`);
      },
      limit: (bytes) => {
        trace.push(`limit ${bytes / MIB}`);
        return bytes > 900 * MIB ? 'the pod has less' : undefined;
      },
    },
  });
  t.teardown(() => memory[Symbol.dispose]());
  const change = async (mib: number): Promise<string[]> => {
    trace.length = 0;
    await memory.change(mib * MIB, signal);
    return trace;
  };
  const taken = (mib: number, device = 'growth'): void =>
    memory.observe({ name: 'MEMORY_DEVICE_SIZE_CHANGE', at: 0, device, size: mib * MIB });
  return { memory, trace, said: log.lines, node, change, taken };
}

void t.test('what a limit asks for', (t) => {
  const vm = {
    name: 'web',
    memoryBytes: 256 * MIB,
    maxMemoryBytes: 512 * MIB,
    memoryFollowsLimit: true,
    memoryLimitBytes: undefined,
    hugepageBytes: undefined,
  };
  t.equal(askedMemory(vm, undefined), undefined);
  t.equal(askedMemory(vm, 512 * MIB), 512 * MIB);
  t.equal(askedMemory(vm, 128 * MIB), 128 * MIB);
  t.throws(() => askedMemory(vm, 513 * MIB), {
    kind: 'FailedPrecondition',
    message:
      'memory cannot grow to 513Mi: VM "web" was created for at most 512Mi; recreate it with a larger limit or with vmshim.io/max-memory of 513Mi or more',
  });
  t.throws(() => askedMemory(vm, 512 * MIB, 256 * MIB), { message: /VM "web" is spread over memory nodes/ });
  const fixed = { ...vm, maxMemoryBytes: 256 * MIB, memoryFollowsLimit: false };
  t.equal(askedMemory(fixed, 512 * MIB), 256 * MIB, 'an annotation alone fixes it');
  t.equal(askedMemory(fixed, 128 * MIB), 128 * MIB);
  for (const memoryFollowsLimit of [true, false]) {
    const created = { ...fixed, memoryFollowsLimit, memoryLimitBytes: 200 * MIB };
    t.equal(askedMemory(created, 200 * MIB), 256 * MIB, 'the limit of its creation asks for nothing else');
    t.equal(askedMemory(created, 199 * MIB), 199 * MIB);
  }
  t.equal(askedMemory({ ...vm, hugepageBytes: 2 * MIB }, 64 * MIB), undefined, 'the limit is QEMU’s own');
  t.end();
});

void t.test('growth is counted before the guest may have it, and until it has given it back', async (t) => {
  const { memory, trace, said, change, taken } = lab();
  t.same(await change(512), ['claim 512', 'limit 512', 'balloon 256', 'qom-set 256']);
  t.equal(memory.bytes, 256 * MIB, 'asked is not taken');
  t.match(memory.warnings, [/asked to have 512 MiB of RAM and has 256 MiB so far: it needs the driver/]);
  taken(128);
  taken(7, 'another');
  t.equal(memory.bytes, 384 * MIB);
  taken(256);
  t.same(memory.warnings, []);
  t.match(said.at(-1), /the guest has the RAM/);

  t.same(await change(200), ['qom-set 0', 'balloon 200'], 'nothing is given back yet');
  t.match(memory.warnings, [/asked to have 256 MiB of RAM and has 512 MiB so far: it gives back only/]);
  trace.length = 0;
  taken(64);
  t.same(await change(300), ['limit 320', 'claim 320', 'balloon 256', 'qom-set 44']);
  trace.length = 0;
  taken(44);
  taken(44);
  t.same(await change(300), ['limit 300', 'claim 300', 'qom-set 44', 'balloon 256']);
});

void t.test('a node without room refuses, and nothing has changed', async (t) => {
  const { memory, trace, node, change } = lab({ free: 300 });
  await t.rejects(change(512), { message: 'the node is full' });
  t.same(trace, []);
  t.same(memory.warnings, []);
  t.same(await change(300), ['claim 300', 'limit 300', 'balloon 256', 'qom-set 44']);
  node.free = 1024;
  await change(1024);
  t.match(memory.warnings, [/the pod has less/, /asked to have 1024 MiB/]);
});

void t.test('a QEMU that did not answer may have heard: the larger of both is counted', async (t) => {
  const { memory, trace, node, change, taken } = lab();
  await change(512);
  taken(256);
  node.broken = true;
  await t.rejects(change(768), { message: 'QEMU is gone' });
  t.same(trace, ['claim 768', 'limit 768']);
  await t.rejects(change(256), { message: 'QEMU is gone' });
  t.equal(memory.bytes, 512 * MIB);
  node.broken = false;
  t.same(await change(512), ['qom-set 256', 'balloon 256', 'limit 512', 'claim 512']);
});

void t.test('one that is taken over is counted as the one before has left it', async (t) => {
  const { memory, change } = lab({ held: 512, plugged: { requested: 256, size: 256 } });
  t.equal(memory.bytes, 512 * MIB);
  t.same(await change(512), ['qom-set 256', 'balloon 256', 'limit 512', 'claim 512']);
});

void t.test('what a guest gives back after its end is not counted anew', async (t) => {
  const { memory, trace, change, taken } = lab();
  await change(512);
  taken(256);
  await change(256);
  trace.length = 0;
  memory[Symbol.dispose]();
  taken(0);
  await t.rejects(change(256));
  t.same(trace, []);
});
