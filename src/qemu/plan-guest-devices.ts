import type { WatchdogAction } from '../core/hardware-spec.ts';
import type { QemuOption } from './option.ts';
import { pciAddress, ROOT_PORTS, rootPortAddress } from './pci-address.ts';
import type { QemuInput } from './qemu-input.ts';
import { virtioDevice } from './virtio-device.ts';

/** What every guest gets: entropy, balloon, panic notice, free places. */
export function planGuestDevices({ spec: { machine, hardware } }: QemuInput): QemuOption[] {
  return [
    // getrandom(2) inside QEMU: no descriptor, and allowed by the sandbox.
    { flag: '-object', json: { 'qom-type': 'rng-builtin', id: 'rng0' } },
    { flag: '-device', json: virtioDevice(machine, 'rng', 'rng', { id: 'rng', rng: 'rng0' }) },
    {
      flag: '-device',
      json: virtioDevice(machine, 'balloon', 'balloon', {
        id: 'balloon',
        // Pages the guest frees go back to the host by themselves, and an inflated balloon never kills a guest.
        'free-page-reporting': true,
        'deflate-on-oom': true,
      }),
    },
    ...(machine === 'q35' ? q35Devices() : []),
    ...(hardware.watchdog === undefined ? [] : watchdog(hardware.watchdog)),
  ];
}

/** QEMU's names of the actions: qapi/run-state.json, `WatchdogAction`. */
const WATCHDOG_ACTIONS = { reset: 'reset', pause: 'pause', nmi: 'inject-nmi', none: 'none' } as const;

function watchdog(action: WatchdogAction): QemuOption[] {
  return [
    { flag: '-device', json: { driver: 'i6300esb', id: 'watchdog', ...pciAddress('watchdog') } },
    { flag: '-watchdog-action', text: WATCHDOG_ACTIONS[action] },
  ];
}

function q35Devices(): QemuOption[] {
  const ports = Array.from({ length: ROOT_PORTS }, (_, index): QemuOption => {
    return {
      flag: '-device',
      json: {
        driver: 'pcie-root-port',
        id: `hotplug${index}`,
        // Slot numbers the guest shows; unique per machine.
        chassis: index + 1,
        port: index + 1,
        ...(index === 0 && { multifunction: true }),
        ...rootPortAddress(index),
      },
    };
  });
  return [
    // Without it a panicked guest looks like a busy one. microvm has no PCI to put it on.
    { flag: '-device', json: { driver: 'pvpanic-pci', id: 'pvpanic', ...pciAddress('pvpanic') } },
    ...ports,
  ];
}
