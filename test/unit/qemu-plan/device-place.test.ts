import t from 'tap';
import { indexOnBus, rootDiskPlace, seatPlace, volumePlace } from '../../../src/qemu/device-place.ts';
import { planQemu } from '../../../src/qemu/plan.ts';
import type { QemuInput, Volume } from '../../../src/qemu/qemu-input.ts';
import { parseArgs } from './check-args.ts';
import { baseInput } from './golden-cases.ts';

const volume: Volume = {
  name: 'a',
  serial: 'a',
  row: 'own',
  device: 'disk',
  bus: 'virtio',
  backend: 'file',
  readOnly: false,
  cache: 'none',
  aio: 'threads',
  discard: true,
  blockSize: undefined,
  boot: undefined,
};
const volumes: readonly Volume[] = [
  volume,
  { ...volume, name: 'b' },
  { ...volume, name: 'c', row: 'mount' },
  { ...volume, name: 'd', bus: 'scsi' },
  { ...volume, name: 'e', bus: 'scsi', row: 'mount' },
  { ...volume, name: 'f', bus: 'sata' },
  { ...volume, name: 'g', bus: 'usb' },
  { ...volume, name: 'h', bus: 'usb' },
];

interface Device {
  readonly id: string;
  readonly bus?: string;
  readonly addr?: string;
  readonly port?: string;
  readonly lun?: number;
  readonly 'scsi-id'?: number;
}

/** What QEMU is told of a device, in the guest's words. */
function planned(input: QemuInput, id: string): string {
  const device = parseArgs(planQemu(input).args)
    .filter(({ flag }) => flag === '-device')
    .map(({ value }) => JSON.parse(value ?? '') as Device)
    .find((one) => one.id === id);
  const { bus = '', addr, port, lun, 'scsi-id': target } = device ?? {};
  const controller = bus.startsWith('volumes-') ? 1 : 0;
  if (addr !== undefined) return `pci 0000:00:${addr}`;
  if (port !== undefined) return `usb ${controller}:${port}`;
  if (target !== undefined) return `scsi ${controller}:0:${target}:${lun ?? ''}`;
  return `sata ${controller}:0:0:${bus.replace(/^.*\./, '')}`;
}

void t.test('a guest is told the places that QEMU is told', (t) => {
  const input = { ...baseInput, volumes };
  for (const one of volumes) {
    const { bus, address } = volumePlace(one, indexOnBus(volumes, one));
    t.equal(`${bus} ${address}`, planned(input, `volume-${one.name}`), one.name);
  }
  for (const diskBus of ['virtio', 'scsi', 'sata', 'usb'] as const) {
    const spec = { ...baseInput.spec, hardware: { ...baseInput.spec.hardware, diskBus } };
    const { bus, address } = rootDiskPlace(spec);
    t.equal(`${bus} ${address}`, planned({ ...input, spec }, 'disk-root'), diskBus);
  }
  t.strictSame(seatPlace('net0'), { bus: 'pci', address: '0000:00:03.0' });
  t.end();
});
