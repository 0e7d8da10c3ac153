import type { QemuOption } from './option.ts';
import type { QemuInput } from './qemu-input.ts';

/** Room for translated code, in MiB; when it is full, QEMU begins anew. By itself QEMU takes up to 1 GiB, on larger nodes. */
export const TCG_CODE_MIB = 256;

/** Who runs the guest's instructions. */
export function planAccel({ accel }: Pick<QemuInput, 'accel'>): QemuOption {
  return { flag: '-accel', head: accel, keys: accel === 'tcg' ? { 'tb-size': TCG_CODE_MIB } : {} };
}
