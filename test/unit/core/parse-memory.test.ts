import t from 'tap';
import type { AnnotationValues } from '../../../src/core/annotations.ts';
import { parseConfig } from '../../../src/core/config.ts';
import type { Hugepages } from '../../../src/core/parse-hugepages.ts';
import { parseMemory } from '../../../src/core/parse-memory.ts';
import { SpecField } from '../../../src/core/spec-field.ts';
import type { MachineKind } from '../../../src/core/vm-spec.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const config = parseConfig('', 'config.toml');

function read(
  said: AnnotationValues,
  limit?: number,
  machine: MachineKind = 'q35',
  hugepages?: Hugepages,
): ReturnType<typeof parseMemory> {
  return parseMemory(said, new SpecField(limit, 'limit'), { machine, hugepages, config });
}

void t.test('how much RAM a guest has and may have', (t) => {
  t.same(read({}), {
    memoryBytes: 512 * MIB,
    maxMemoryBytes: 512 * MIB,
    memoryFollowsLimit: true,
    memoryLimitBytes: undefined,
  });
  t.same(read({ 'max-memory': 2 * GIB + 1 }, GIB + 5), {
    memoryBytes: GIB,
    maxMemoryBytes: 2 * GIB,
    memoryFollowsLimit: true,
    memoryLimitBytes: GIB,
  });
  t.match(
    read({ memory: 256 * MIB }, GIB),
    { memoryBytes: 256 * MIB, maxMemoryBytes: 256 * MIB, memoryFollowsLimit: false, memoryLimitBytes: GIB },
    'the annotation alone fixes it',
  );
  t.match(read({ memory: 256 * MIB, 'max-memory': GIB }), {
    memoryBytes: 256 * MIB,
    maxMemoryBytes: GIB,
    memoryFollowsLimit: true,
  });
  for (const none of [0, -1, 2 ** 63 - 1024]) {
    t.match(read({}, none), { memoryBytes: 512 * MIB, memoryLimitBytes: undefined });
  }
  t.end();
});

void t.test('RAM that cannot grow', (t) => {
  const refused = (...args: Parameters<typeof read>): string => {
    try {
      read(...args);
    } catch (error) {
      return (error as Error).message;
    }
    return 'taken';
  };
  t.equal(
    refused({ 'max-memory': GIB }, 2 * GIB),
    'annotation vmshim.io/max-memory is "1Gi", but the VM starts with 2Gi; raise it or remove it',
  );
  t.match(refused({ 'max-memory': GIB }, 256 * MIB, 'microvm'), /microvm takes no RAM while it runs.*"q35"/);
  t.match(refused({ 'max-memory': GIB, numa: { kind: 'spread' } }), /spread over nodes.*numa to "auto"/);
  const hugepages = { pageBytes: 2 * MIB, limitBytes: 512 * MIB };
  t.match(refused({ 'max-memory': GIB }, 256 * MIB, 'q35', hugepages), /huge pages cannot be changed/);
  t.equal(refused({ 'max-memory': 512 * MIB }, undefined, 'microvm'), 'taken', 'no growth at all');
  t.end();
});
