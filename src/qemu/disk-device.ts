import type { DiskBus } from '../core/hardware-spec.ts';
import type { VmSpec } from '../core/vm-spec.ts';
import type { JsonObject } from './qmp-codec.ts';
import { virtioDevice } from './virtio-device.ts';

/** Where disks and the pointer hang on their controllers; as fixed as PCI addresses, and for the same reason. */
export const UNITS = { rootDisk: 0, guestDrive: 1 } as const;
export const USB_PORTS = { rootDisk: '1', tablet: '2', guestDrive: '3' } as const;

export type DiskSeat = keyof typeof UNITS;

/** IDE knows no disk that cannot be written, and a CD-ROM has no vfat, so such a disk is a USB stick beside SATA. */
export function diskBus({ hardware }: VmSpec, seat: DiskSeat): DiskBus {
  return hardware.diskBus === 'sata' && seat === 'guestDrive' ? 'usb' : hardware.diskBus;
}

/** A disk on the bus that the pod chose; its controller is `planControllers`'. */
export function diskDevice(spec: VmSpec, seat: DiskSeat, properties: JsonObject): JsonObject {
  switch (diskBus(spec, seat)) {
    case 'virtio':
      return virtioDevice(spec.machine, 'blk', seat, properties);
    case 'scsi':
      return { driver: 'scsi-hd', ...properties, bus: 'scsi.0', 'scsi-id': UNITS[seat], lun: 0 };
    case 'sata':
      return { driver: 'ide-hd', ...properties, bus: `sata.${UNITS[seat]}` };
    case 'usb':
      return { driver: 'usb-storage', ...properties, bus: 'usb.0', port: USB_PORTS[seat] };
  }
}
