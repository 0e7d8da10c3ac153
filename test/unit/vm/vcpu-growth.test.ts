import t from 'tap';
import { askedVcpus, VcpuGrowth } from '../../../src/vm/vcpu-growth.ts';

const limits = (cpuQuota: number | undefined, cpuPeriod?: number) => ({
  cpuShares: undefined,
  cpuQuota,
  cpuPeriod,
  cpusetCpus: undefined,
  cpusetMems: undefined,
});
const vm = {
  name: 'web',
  vcpus: 2,
  maxVcpus: 4,
  vcpusFollowLimit: true,
  resources: limits(20_000, 10_000),
};
const never = new AbortController().signal;

void t.test('vCPUs that a limit asks for', (t) => {
  t.equal(askedVcpus(vm, limits(30_000)), 3, 'by the period it was created with');
  t.equal(askedVcpus(vm, limits(400_000, 100_000)), 4);
  for (const less of [limits(undefined), limits(-1), limits(20_000), limits(5_000)]) {
    t.equal(askedVcpus(vm, less), undefined);
  }
  t.throws(() => askedVcpus(vm, limits(50_000)), {
    kind: 'FailedPrecondition',
    message:
      'the CPU limit asks for 5 vCPUs, but VM "web" was created for at most 4: recreate it with vmshim.io/max-cpus of 5 or more',
  });
  t.equal(
    askedVcpus({ ...vm, vcpusFollowLimit: false }, limits(50_000)),
    undefined,
    'an annotation says how many',
  );
  t.end();
});

/** QEMU's places in the order it lists them, the last first. */
function machine(places: number, taken: number) {
  const plugged = new Set(Array.from({ length: taken }, (_, i) => i));
  const asked: unknown[] = [];
  return {
    asked,
    execute: async (command: string, args?: Record<string, unknown>): Promise<unknown> => {
      await Promise.resolve();
      if (command === 'device_add') {
        asked.push(args);
        plugged.add(args?.['core-id'] as number);
        return {};
      }
      return Array.from({ length: places }, (_, i) => places - 1 - i).map((core) => ({
        type: 'max-x86_64-cpu',
        'vcpus-count': 1,
        props: { 'socket-id': 0, 'core-id': core, 'thread-id': 0 },
        ...(plugged.has(core) && { 'qom-path': `/machine/${core}` }),
      }));
    },
  };
}

void t.test('the lowest free places are taken, once each, however many ask at a time', async (t) => {
  const qemu = machine(4, 2);
  const growth = new VcpuGrowth(qemu, 2);
  t.equal(growth.count, 2);
  await Promise.all([growth.growTo(3, never), growth.growTo(4, never), growth.growTo(3, never)]);
  t.same(qemu.asked, [
    { driver: 'max-x86_64-cpu', id: 'cpu-0-2-0', 'socket-id': 0, 'core-id': 2, 'thread-id': 0 },
    { driver: 'max-x86_64-cpu', id: 'cpu-0-3-0', 'socket-id': 0, 'core-id': 3, 'thread-id': 0 },
  ]);
  t.equal(growth.count, 4);
  await t.rejects(growth.growTo(5, never), { name: 'VmError', kind: 'FailedPrecondition' });
  await growth.growTo(4, never);
  t.equal(qemu.asked.length, 2, 'a request that failed does not stand in the way of the next');
});

void t.test('answers that are none', async (t) => {
  for (const reply of [{}, [1], [{ type: 'x' }], [{ props: {} }]]) {
    const qemu = { execute: () => Promise.resolve(reply) };
    await t.rejects(new VcpuGrowth(qemu, 1).growTo(2, never), {
      kind: 'Internal',
      message: /query-hotpluggable-cpus/,
    });
  }
});
