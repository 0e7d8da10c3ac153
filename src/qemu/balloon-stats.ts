import { setTimeout as delay } from 'node:timers/promises';
import { VmError } from '../core/errors.ts';
import { oddReply } from './odd-reply.ts';
import { isJsonObject, type JsonObject } from './qmp-codec.ts';
import type { QmpCallOptions, QmpExecutor } from './qmp-commands.ts';

/** QEMU's names of the figures, without their `stat-`. */
const FIGURES = {
  total: 'total-memory',
  free: 'free-memory',
  /** What programs could still get without swapping. */
  available: 'available-memory',
  caches: 'disk-caches',
  swappedIn: 'swap-in',
  swappedOut: 'swap-out',
  majorFaults: 'major-faults',
  minorFaults: 'minor-faults',
} as const;

/**
 * The guest's own view of its memory, as its balloon driver tells it (virtio 1.2, 5.5.6.3). Bytes, and counters since the
 * guest's boot; what the driver does not tell is absent.
 */
export type GuestMemory = { readonly [name in keyof typeof FIGURES]?: number };

const BALLOON = { path: '/machine/peripheral/balloon' } as const;
const INTERVAL = 'guest-stats-polling-interval';
/** In seconds: never again, for QEMU asks at once when an interval is first set. */
const ONCE = 86_400;
/** A guest answers within milliseconds, or it has no driver. */
const ANSWER_MS = 500;
const LOOK_MS = 10;

/**
 * Asks the guest once, and leaves nothing behind that would wake it again (docs/interop/virtio-balloon-stats.rst of QEMU).
 * @returns undefined for a guest that does not answer, and for a machine without a balloon.
 */
export async function askGuestMemory(
  qmp: QmpExecutor,
  options?: QmpCallOptions,
): Promise<GuestMemory | undefined> {
  const set = (value: number): Promise<unknown> =>
    qmp.execute('qom-set', { ...BALLOON, property: INTERVAL, value }, options);
  const get = async (): Promise<Answer> =>
    parseAnswer(await qmp.execute('qom-get', { ...BALLOON, property: 'guest-stats' }, options));
  try {
    const before = await get();
    await set(ONCE);
    const end = performance.now() + ANSWER_MS;
    let answer = await get();
    // The answer's time is in seconds: a second question within one is answered by what is known already.
    while (answer.at === before.at && answer.at !== seconds() && performance.now() < end) {
      await delay(LOOK_MS);
      answer = await get();
    }
    await set(0);
    return answer.at === before.at && answer.at !== seconds() ? undefined : answer.memory;
  } catch (error) {
    if (VmError.is(error, 'NotFound')) return undefined;
    throw error;
  }
}

function seconds(): number {
  return Math.floor(Date.now() / 1000);
}

interface Answer {
  /** Seconds since the epoch; 0: never. */
  readonly at: number;
  readonly memory: GuestMemory;
}

function parseAnswer(reply: unknown): Answer {
  const stats: unknown = isJsonObject(reply) ? reply['stats'] : undefined;
  if (!isJsonObject(reply) || !isJsonObject(stats) || typeof reply['last-update'] !== 'number')
    throw oddReply('qom-get', reply, 'guest-stats');
  return { at: reply['last-update'], memory: parseStats(stats) };
}

function parseStats(stats: JsonObject): GuestMemory {
  const told = Object.entries(FIGURES).flatMap(([name, key]): [string, number][] => {
    const value = stats[`stat-${key}`];
    // -1 in 64 bits is what was not told; no guest has as much as 2^62.
    return typeof value === 'number' && value >= 0 && value < 2 ** 62 ? [[name, value]] : [];
  });
  return Object.fromEntries(told);
}
