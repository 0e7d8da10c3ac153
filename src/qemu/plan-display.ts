import type { VideoModel } from '../core/hardware-spec.ts';
import { USB_PORTS } from './disk-device.ts';
import type { QemuOption } from './option.ts';
import { pciAddress } from './pci-address.ts';
import type { QemuInput } from './qemu-input.ts';

/**
 * Screen and pointer. VNC has no address here: no option of QEMU 7.2 takes an open socket, so `serveVnc` hands it over
 * once QMP answers. The keyboard is the board's own PS/2 one.
 */
export function planDisplay({ spec }: QemuInput): QemuOption[] {
  const { video } = spec.hardware;
  if (video === 'none') return [];
  return [
    // Several viewers see the same; by default a second one would end the first.
    { flag: '-vnc', head: 'none', keys: { share: 'force-shared' } },
    { flag: '-device', json: { driver: DRIVERS[video], id: 'video', ...pciAddress('video') } },
    // A tablet says where the pointer is, a mouse only how it moved, which never fits what the viewer shows.
    { flag: '-device', json: { driver: 'usb-tablet', id: 'tablet', bus: 'usb.0', port: USB_PORTS.tablet } },
  ];
}

const DRIVERS: Readonly<Record<Exclude<VideoModel, 'none'>, string>> = {
  std: 'VGA',
  virtio: 'virtio-vga',
};
