/**
 * Where everything sits on q35's root bus. An address is part of a guest's identity: Windows binds drivers to it, Linux
 * names links after it (enp0s3), and a QEMU that takes over a running guest must have the same. So the table is
 * fixed: a device keeps its slot whether or not its neighbours exist, and a slot given once is never given to something else.
 *
 * | slot | device |
 * |---|---|
 * | 00 | host bridge (QEMU's own) |
 * | 01 | graphics card |
 * | 02 | root disk |
 * | 03 | first network card |
 * | 04 | random numbers |
 * | 05 | balloon |
 * | 06 | pvpanic |
 * | 07 | virtio-serial for the guest agent, kept free |
 * | 08–0b | second to fifth network card |
 * | 0c.0–0c.7 | disks that the shim makes or the node has: the first eight, on the bus `virtio` |
 * | 0d.0–0d.7 | block volumes, likewise |
 * | 0e.0–0e.7 | disks in mounted volumes, likewise |
 * | 0f | guest data drive: behind most other disks of this bus |
 * | 10.0–10.3 | root ports: the places for hot-plugged disks and cards |
 * | 11–13 | the next eight of each of the three kinds of disks |
 * | 14 | USB controller |
 * | 15 | SCSI controller (virtio) |
 * | 16 | watchdog |
 * | 17 | SATA controller |
 * | 18 | SCSI controller (virtio) of the disks in slots 0c–0e and 11–13, were they on that bus |
 * | 19 | SATA controller, likewise |
 * | 1a | USB controller, likewise |
 * | 1b.0–1b.7 | shared directories |
 * | 1c | RAM that is plugged while the guest runs |
 * | 1f | ICH9 LPC bridge (QEMU's own) |
 */
export const PCI_SLOTS = {
  video: 0x01,
  rootDisk: 0x02,
  net0: 0x03,
  rng: 0x04,
  balloon: 0x05,
  pvpanic: 0x06,
  net1: 0x08,
  net2: 0x09,
  net3: 0x0a,
  net4: 0x0b,
  guestDrive: 0x0f,
  usb: 0x14,
  scsi: 0x15,
  watchdog: 0x16,
  sata: 0x17,
  volumesScsi: 0x18,
  volumesSata: 0x19,
  volumesUsb: 0x1a,
  growth: 0x1c,
} as const;

export type Seat = keyof typeof PCI_SLOTS;

const ROOT_PORT_SLOT = 0x10;
const SHARED_SLOT = 0x1b;

/** One multifunction slot; pcie.0 itself takes no hot-plug, so the places must exist from the start. */
export const ROOT_PORTS = 4;

/** `bus` and `addr` of a device that sits on the root bus itself. */
export function pciAddress(seat: Seat): { readonly bus: 'pcie.0'; readonly addr: string } {
  return { bus: 'pcie.0', addr: formatAddress(PCI_SLOTS[seat], 0) };
}

const VOLUME_SLOTS = { own: [0x0c, 0x11], device: [0x0d, 0x12], mount: [0x0e, 0x13] } as const;
const FUNCTIONS = 8;

/** Places for virtio disks in each row. */
export const ROW_PLACES = 2 * FUNCTIONS;

/** The place of a virtio disk in its row, from 0 on. Function 0 says that there may be more in its slot. */
export function volumeAddress(
  row: keyof typeof VOLUME_SLOTS,
  place: number,
): { readonly bus: 'pcie.0'; readonly addr: string; readonly multifunction?: true } {
  const slot = VOLUME_SLOTS[row][place < FUNCTIONS ? 0 : 1];
  const fn = place % FUNCTIONS;
  return { bus: 'pcie.0', addr: formatAddress(slot, fn), ...(fn === 0 && { multifunction: true }) };
}

/** The place of a shared directory, by its order. */
export function sharedAddress(index: number): ReturnType<typeof volumeAddress> {
  const addr = formatAddress(SHARED_SLOT, index);
  return { bus: 'pcie.0', addr, ...(index === 0 && { multifunction: true }) };
}

export function rootPortAddress(index: number): { readonly bus: 'pcie.0'; readonly addr: string } {
  return { bus: 'pcie.0', addr: formatAddress(ROOT_PORT_SLOT, index) };
}

/** The form QEMU's `addr` property takes: hexadecimal slot, dot, function. */
function formatAddress(slot: number, fn: number): string {
  return `${slot.toString(16).padStart(2, '0')}.${fn.toString(16)}`;
}
