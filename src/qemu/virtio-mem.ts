import { VmError } from '../core/errors.ts';
import { oddReply } from './odd-reply.ts';
import { GROWTH } from './plan-growth.ts';
import type { QmpCallOptions, QmpExecutor } from './qmp-commands.ts';

/** In bytes: what the guest was asked to have of the plugged RAM, and what it has. */
export interface PluggedRam {
  readonly requested: number;
  readonly size: number;
}

const DEVICE = { path: `/machine/peripheral/${GROWTH}` } as const;

/**
 * Asks the guest to have so much of the RAM that can be plugged, in bytes, whole blocks. It may take less, later, or give
 * nothing back: MEMORY_DEVICE_SIZE_CHANGE tells how far it came. Source: QEMU's hw/virtio/virtio-mem.c, `requested-size`.
 */
export async function requestPlugged(
  qmp: QmpExecutor,
  bytes: number,
  options?: QmpCallOptions,
): Promise<void> {
  await qmp.execute('qom-set', { ...DEVICE, property: 'requested-size', value: bytes }, options);
}

/** Nothing of both for a machine that takes no RAM. */
export async function queryPlugged(qmp: QmpExecutor, options?: QmpCallOptions): Promise<PluggedRam> {
  const get = async (property: string): Promise<number> => {
    const reply = await qmp.execute('qom-get', { ...DEVICE, property }, options);
    if (typeof reply !== 'number') throw oddReply('qom-get', reply, property);
    return reply;
  };
  try {
    return { requested: await get('requested-size'), size: await get('size') };
  } catch (error) {
    if (VmError.is(error, 'NotFound')) return { requested: 0, size: 0 };
    throw error;
  }
}
