import type { GuestRam } from '../core/guest-ram.ts';
import { MIB } from '../core/quantity.ts';
import type { VmSpec } from '../core/vm-spec.ts';
import type { QemuOption } from './option.ts';
import { pciAddress } from './pci-address.ts';

/** Name of the device and of its memory. */
export const GROWTH = 'growth';

/** A transparent huge page of x86: QEMU's own choice there, and the least that it takes without a warning. */
export const GROWTH_BLOCK = 2 * MIB;

/**
 * RAM that can be plugged into the running machine, in bytes, whole blocks. None into a guest that is spread over nodes:
 * every one of its nodes would have to grow with the others.
 */
export function growthRoom(
  { memoryBytes, maxMemoryBytes }: Pick<VmSpec, 'memoryBytes' | 'maxMemoryBytes'>,
  ram: GuestRam,
): number {
  if (ram.kind === 'nodes') return 0;
  return Math.max(0, Math.floor((maxMemoryBytes - memoryBytes) / GROWTH_BLOCK) * GROWTH_BLOCK);
}

/**
 * The device that the guest takes RAM from (virtio 1.2, 5.15), empty at first. With it QEMU's q35 describes a memory node to
 * the guest, whose tables say how far its RAM may reach: Linux sizes its bounce buffers by that, Windows plugs nothing without.
 */
export function planGrowth(): QemuOption {
  return {
    flag: '-device',
    json: {
      driver: 'virtio-mem-pci',
      id: GROWTH,
      memdev: GROWTH,
      'block-size': GROWTH_BLOCK,
      ...pciAddress('growth'),
    },
  };
}
