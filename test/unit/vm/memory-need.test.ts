import t from 'tap';
import type { VmSpec } from '../../../src/core/vm-spec.ts';
import { shortage } from '../../../src/vm/limit-memory.ts';
import { memoryLimit, memoryNeed } from '../../../src/vm/memory-need.ts';
import { baseInput } from '../qemu-plan/golden-cases.ts';

const MIB = 2 ** 20;
const none = { mode: 'none' } as const;
const least: VmSpec = {
  ...baseInput.spec,
  ...{
    memoryBytes: 1024 * MIB,
    vcpus: 1,
    maxVcpus: 1,
    disks: [],
    shared: [],
    network: none,
    firmware: 'bios',
  },
  hardware: { ...baseInput.spec.hardware, video: 'none' },
};
const beside = (change: Partial<VmSpec>, accel: 'kvm' | 'tcg' = 'kvm', cards = 0): number =>
  memoryNeed({ ...least, ...change }, accel, cards).beside / MIB;

void t.test('what a VM needs beside its RAM, in MiB', (t) => {
  t.equal(beside({}), 80 + 4 + 6 + 4);
  t.equal(beside({ maxVcpus: 4 }), beside({}) + 12, 'also vCPUs that may be plugged');
  t.equal(beside({ memoryBytes: 4096 * MIB }), beside({}) + 12, 'page tables');
  t.equal(beside({ hugepageBytes: 2 * MIB }), beside({}) - 4, 'hardly any for huge pages');
  t.equal(beside({}, 'kvm', 2), beside({}) + 16);
  t.equal(beside({ network: { mode: 'user', mac: '', forwards: [] } }), beside({}) + 8);
  t.equal(beside({ firmware: 'uefi' }), beside({}) + 8);
  t.equal(beside({ hardware: { ...least.hardware, video: 'virtio' } }), beside({}) + 48);
  const disks = ['empty', 'rbd'].map((kind) => ({ source: { kind } })) as never;
  t.equal(beside({ disks }), beside({}) + 6 + 64);
  t.equal(beside({ shared: [{}] as never }), beside({}) + 32);
  t.equal(beside({}, 'tcg'), beside({}) + 282, 'translated code');
  t.end();
});

void t.test('the limit leaves twice of that, and counts RAM only where the kernel does', (t) => {
  const need = memoryNeed(least, 'kvm', 1);
  t.equal(memoryLimit(need), (1024 + 2 * 102) * MIB);
  t.equal(memoryLimit(memoryNeed({ ...least, hugepageBytes: 2 * MIB }, 'kvm', 1)), 2 * 98 * MIB);
  t.end();
});

void t.test('a pod’s limit that is too small is told of', (t) => {
  const need = { ram: 1024 * MIB, beside: 100 * MIB };
  t.equal(shortage(need, undefined), undefined);
  t.equal(shortage(need, 1124 * MIB), undefined);
  t.equal(
    shortage(need, 1124 * MIB - 1),
    'the pod’s memory limit is 1123 MiB, but the VM may need 1124 MiB (1024 of RAM, 100 beside it) and is killed when it does: raise the RuntimeClass’s overhead or lower vmshim.io/memory',
  );
  t.end();
});
