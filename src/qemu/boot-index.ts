import { ROOT_BOOT_ORDER } from '../core/disk-spec.ts';
import type { QemuInput } from './qemu-input.ts';

/** QEMU's `bootindex` of the disk at this position: from 1 on without gaps. 0 belongs to the option ROM that loads -kernel. */
export function bootIndex(
  { volumes, rootDisk }: Pick<QemuInput, 'volumes' | 'rootDisk'>,
  boot: number,
): number {
  const before = volumes.filter((volume) => volume.boot !== undefined && volume.boot < boot).length;
  return 1 + before + (rootDisk !== undefined && boot > ROOT_BOOT_ORDER ? 1 : 0);
}
