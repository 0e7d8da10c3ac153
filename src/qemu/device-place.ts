import type { VmSpec } from '../core/vm-spec.ts';
import { diskBus, UNITS, USB_PORTS } from './disk-device.ts';
import { pciAddress, type Seat, volumeAddress } from './pci-address.ts';
import type { Volume } from './qemu-input.ts';

/**
 * Where a guest finds a device, as Nova's metadata has it: on `pci` domain:bus:slot.function, on `scsi` and `sata`
 * controller:bus:target:unit, on `usb` controller:port. Controller 0 is that of the VM's own disks, 1 that of all others.
 */
export interface DevicePlace {
  readonly bus: 'pci' | 'scsi' | 'sata' | 'usb';
  readonly address: string;
}

/** A device on q35's root bus. */
export function seatPlace(seat: Seat): DevicePlace {
  return onPci(pciAddress(seat));
}

export function rootDiskPlace(spec: VmSpec): DevicePlace {
  const bus = diskBus(spec, 'rootDisk');
  switch (bus) {
    case 'virtio':
      return seatPlace('rootDisk');
    case 'scsi':
      return { bus, address: `0:0:${UNITS.rootDisk}:0` };
    case 'sata':
      return { bus, address: `0:0:0:${UNITS.rootDisk}` };
    case 'usb':
      return { bus, address: `0:${USB_PORTS.rootDisk}` };
  }
}

/** @param index of the disk among those of its bus, on `virtio` among those of its row: `indexOnBus`. */
export function volumePlace({ bus, row }: Volume, index: number): DevicePlace {
  switch (bus) {
    case 'virtio':
      return onPci(volumeAddress(row, index));
    case 'scsi':
      return { bus, address: `1:0:${index}:0` };
    case 'sata':
      return { bus, address: `1:0:0:${index}` };
    case 'usb':
      return { bus, address: `1:${index + 1}` };
  }
}

/** Which disk of its bus this one is; virtio disks count in their row. It decides where the disk is plugged in. */
export function indexOnBus(volumes: readonly Volume[], volume: Volume): number {
  return volumes
    .filter(({ bus, row }) => bus === volume.bus && (bus !== 'virtio' || row === volume.row))
    .indexOf(volume);
}

function onPci({ addr }: { readonly addr: string }): DevicePlace {
  return { bus: 'pci', address: `0000:00:${addr}` };
}
