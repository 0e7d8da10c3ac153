import { VmError } from '../core/errors.ts';
import { isJsonObject, type JsonObject } from './qmp-codec.ts';
import type { QmpCallOptions, QmpExecutor } from './qmp-commands.ts';
import { oddReply } from './odd-reply.ts';

/** A place for a vCPU: `HotpluggableCPU` of QEMU's qapi/machine.json. */
interface VcpuSlot {
  readonly driver: string;
  /** `CpuInstanceProperties`: where it is in the topology. */
  readonly place: Readonly<Record<string, number>>;
  readonly taken: boolean;
}

/**
 * Plugs vCPUs into a machine until it has `count`, the lowest free places first. One that has as many or more stays as
 * it is: a guest need not let go of a CPU. Returns how many it then has.
 * @throws VmError FailedPrecondition when it has fewer places.
 */
export async function plugVcpus(qmp: QmpExecutor, count: number, options?: QmpCallOptions): Promise<number> {
  const slots = parseSlots(await qmp.execute('query-hotpluggable-cpus', undefined, options));
  const taken = slots.filter((slot) => slot.taken).length;
  const missing = count - taken;
  const free = slots.filter((slot) => !slot.taken).sort((a, b) => order(a) - order(b));
  if (missing > free.length) {
    throw new VmError(
      'FailedPrecondition',
      `a machine with places for ${slots.length} vCPUs cannot have ${count}`,
    );
  }
  for (const { driver, place } of free.slice(0, Math.max(0, missing))) {
    const id = `cpu-${Object.values(place).join('-')}`;
    await qmp.execute('device_add', { driver, id, ...place }, options);
  }
  return Math.max(taken, count);
}

/** Machines of one socket differ by core alone; those of several are counted socket by socket. */
function order({ place }: VcpuSlot): number {
  const { 'socket-id': socket = 0, 'core-id': core = 0, 'thread-id': thread = 0 } = place;
  return (socket * 1024 + core) * 1024 + thread;
}

function parseSlots(reply: unknown): VcpuSlot[] {
  if (!Array.isArray(reply)) throw oddReply('query-hotpluggable-cpus', reply);
  return reply.map((slot: unknown) => {
    if (!isJsonObject(slot) || typeof slot['type'] !== 'string' || !isJsonObject(slot['props']))
      throw oddReply('query-hotpluggable-cpus', reply);
    return { driver: slot['type'], place: numbers(slot['props']), taken: slot['qom-path'] !== undefined };
  });
}

function numbers(props: JsonObject): Record<string, number> {
  return Object.fromEntries(
    Object.entries(props).flatMap(([key, value]) => (typeof value === 'number' ? [[key, value]] : [])),
  );
}
