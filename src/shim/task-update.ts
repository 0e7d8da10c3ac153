import { VmError } from '../core/errors.ts';
import { MIB } from '../core/quantity.ts';
import type { CpuResources } from '../core/vm-spec.ts';

/** Some write "no limit" as the largest int64 or close to it. No machine has as much memory as 2^50 bytes. */
const UNLIMITED_BYTES = 2 ** 50;

/** What an Update may change on a VM. */
export interface TaskUpdate {
  readonly cpu: CpuResources;
  /** The memory limit in bytes, or undefined when the update says nothing of it. */
  readonly memoryBytes: number | undefined;
}

/**
 * Parses `UpdateTaskRequest.resources`: an Any whose value is the JSON of OCI `LinuxResources`.
 * @throws VmError InvalidArgument naming the field.
 */
export function parseTaskUpdate(value: Uint8Array | null | undefined): TaskUpdate {
  const resources = parseObject(
    value === null || value === undefined ? '{}' : Buffer.from(value).toString('utf8'),
  );
  const cpu = child(resources, 'cpu');
  const memory = child(resources, 'memory');
  const limit = integer(memory, 'memory', 'limit');
  return {
    cpu: {
      cpuShares: integer(cpu, 'cpu', 'shares'),
      cpuQuota: integer(cpu, 'cpu', 'quota'),
      cpuPeriod: integer(cpu, 'cpu', 'period'),
      cpusetCpus: cpuList(cpu, 'cpus'),
      cpusetMems: cpuList(cpu, 'mems'),
    },
    // No limit, in whatever way it is written, is no change for a machine with fixed RAM. Rounded as at creation, so
    // that the limit it was created with always fits.
    memoryBytes:
      limit !== undefined && limit > 0 && limit < UNLIMITED_BYTES ? Math.floor(limit / MIB) * MIB : undefined,
  };
}

type Json = Readonly<Record<string, unknown>>;

function parseObject(text: string): Json {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  } catch {
    // The same sentence serves both.
  }
  throw new VmError('InvalidArgument', 'resources of the update are no JSON object of OCI LinuxResources');
}

function child(object: Json, key: string): Json {
  const value = object[key] ?? {};
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw new VmError('InvalidArgument', `resources.${key} of the update must be an object`);
  }
  return value as Json;
}

function integer(object: Json, parent: string, key: string): number | undefined {
  const value = object[key] ?? undefined;
  if (value === undefined) return undefined;
  // 0 is how the writers of OCI resources say that a field is not set.
  if (typeof value === 'number' && Number.isInteger(value)) return value === 0 ? undefined : value;
  throw new VmError(
    'InvalidArgument',
    `resources.${parent}.${key} of the update is ${JSON.stringify(value)}; it must be a whole number`,
  );
}

function cpuList(object: Json, key: string): string | undefined {
  const value = object[key] ?? '';
  if (value === '') return undefined;
  if (typeof value === 'string' && /^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(value)) return value;
  throw new VmError(
    'InvalidArgument',
    `resources.cpu.${key} of the update is ${JSON.stringify(value)}; it must be a list such as "0-3,8"`,
  );
}
