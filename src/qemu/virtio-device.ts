import type { MachineKind } from '../core/vm-spec.ts';
import type { JsonObject } from './qmp-codec.ts';
import { pciAddress, type Seat } from './pci-address.ts';

/** Devices and controllers that a microvm has not. */
type PciSeat = 'pvpanic' | 'watchdog' | 'video' | 'usb' | 'scsi' | 'sata' | 'growth' | `volumes${string}`;

/**
 * microvm has no PCI; its virtio devices sit on memory-mapped transports that the board numbers. The bus is
 * named so that a device keeps its transport whatever else is there. Eight exist on every microvm.
 */
const MMIO_BUSES: Readonly<Record<Exclude<Seat, PciSeat>, number>> = {
  rootDisk: 0,
  net0: 1,
  rng: 2,
  balloon: 3,
  net1: 4,
  net2: 5,
  net3: 6,
  net4: 7,
  // The place of a fifth network card, which a VM with this drive cannot have.
  guestDrive: 7,
};

/** A virtio device of class `name` (blk, net …) with its transport and fixed place on this kind of machine. */
export function virtioDevice(
  machine: MachineKind,
  name: 'blk' | 'net' | 'rng' | 'balloon',
  seat: keyof typeof MMIO_BUSES,
  properties: JsonObject,
): JsonObject {
  switch (machine) {
    case 'q35':
      return { driver: `virtio-${name}-pci`, ...properties, ...pciAddress(seat) };
    case 'microvm':
      return { driver: `virtio-${name}-device`, ...properties, bus: `virtio-mmio-bus.${MMIO_BUSES[seat]}` };
  }
}
