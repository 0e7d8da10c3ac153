import { ANNOTATION_PREFIX, type AnnotationValues } from './annotations.ts';
import type { Config } from './config.ts';
import { VmError } from './errors.ts';
import { checkHugepages, type Hugepages } from './parse-hugepages.ts';
import { formatBytes, MIB } from './quantity.ts';
import type { SpecField } from './spec-field.ts';
import type { MachineKind, VmSpec } from './vm-spec.ts';

/** Some write "no limit" as the largest int64 or close to it. No machine has as much memory as 2^50 bytes. */
const UNLIMITED_BYTES = 2 ** 50;
const MAX_INT64 = 2 ** 63;

type Memory = Pick<VmSpec, 'memoryBytes' | 'maxMemoryBytes' | 'memoryFollowsLimit' | 'memoryLimitBytes'>;

interface MemoryParts {
  readonly machine: MachineKind;
  readonly hugepages: Hugepages | undefined;
  readonly config: Config;
}

/**
 * How much RAM a guest starts with, and how much it may be given while it runs.
 * @param limitField OCI's `linux.resources.memory.limit`, in bytes.
 * @throws VmError InvalidArgument.
 */
export function parseMemory(said: AnnotationValues, limitField: SpecField, parts: MemoryParts): Memory {
  const limit = parseLimit(limitField);
  const memoryBytes = parseRam(said, limit, parts);
  const most = said['max-memory'];
  const maxMemoryBytes = most === undefined ? memoryBytes : wholeMib(most);
  checkGrowth({ memoryBytes, maxMemoryBytes }, said, parts);
  return {
    memoryBytes,
    maxMemoryBytes,
    memoryFollowsLimit: said.memory === undefined || most !== undefined,
    memoryLimitBytes: limit === undefined ? undefined : wholeMib(limit),
  };
}

function wholeMib(bytes: number): number {
  return Math.floor(bytes / MIB) * MIB;
}

/** 0 and -1 are how the OCI spec's writers say "no limit". */
function parseLimit(field: SpecField): number | undefined {
  const asked = field.integer(-1, MAX_INT64);
  return asked === undefined || asked >= UNLIMITED_BYTES || asked <= 0 ? undefined : asked;
}

function parseRam(
  said: AnnotationValues,
  limit: number | undefined,
  { machine, hugepages, config }: MemoryParts,
): number {
  // A pod with huge pages has its guest's RAM in them; its memory limit is then for what QEMU itself uses.
  const bytes = said.memory ?? hugepages?.limitBytes ?? limit ?? config.defaults.memoryBytes;
  const rounded = wholeMib(bytes);
  const least = (machine === 'microvm' ? 32 : 64) * MIB;
  if (hugepages !== undefined) checkHugepages(hugepages, rounded);
  if (rounded >= least) return rounded;
  const source =
    said.memory !== undefined
      ? `annotation ${ANNOTATION_PREFIX}memory`
      : hugepages !== undefined
        ? 'the hugepages limit'
        : limit !== undefined
          ? 'the memory limit'
          : 'defaults.memory of the config file';
  throw new VmError(
    'InvalidArgument',
    `${source} is ${formatBytes(bytes)}; a ${machine} VM needs at least ${formatBytes(least)}: raise it`,
  );
}

function checkGrowth(
  { memoryBytes, maxMemoryBytes }: Pick<VmSpec, 'memoryBytes' | 'maxMemoryBytes'>,
  { numa }: AnnotationValues,
  { machine, hugepages }: MemoryParts,
): void {
  if (maxMemoryBytes === memoryBytes) return;
  const wrong = (why: string): VmError =>
    new VmError(
      'InvalidArgument',
      `annotation ${ANNOTATION_PREFIX}max-memory is "${formatBytes(maxMemoryBytes)}", ${why}`,
    );
  if (maxMemoryBytes < memoryBytes)
    throw wrong(`but the VM starts with ${formatBytes(memoryBytes)}; raise it or remove it`);
  if (hugepages !== undefined)
    throw wrong('but a limit of huge pages cannot be changed while a pod runs: remove it');
  const remedy = `remove it or set ${ANNOTATION_PREFIX}`;
  if (machine === 'microvm')
    throw wrong(`but a microvm takes no RAM while it runs: ${remedy}machine to "q35"`);
  if (numa?.kind === 'spread')
    throw wrong(`but the RAM of a VM that is spread over nodes is divided for good: ${remedy}numa to "auto"`);
}
