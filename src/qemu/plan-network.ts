import { VmError } from '../core/errors.ts';
import type { NetworkSpec, PortForward } from '../core/vm-spec.ts';
import type { QemuOption } from './option.ts';
import type { QemuInput } from './qemu-input.ts';
import { virtioDevice } from './virtio-device.ts';

/** The first network card and what it is plugged into. */
export function planNetwork({ spec }: QemuInput): QemuOption[] {
  const { network, machine } = spec;
  switch (network.mode) {
    case 'none':
      return [];
    case 'user':
      return [
        { flag: '-netdev', json: userNet(network) },
        {
          flag: '-device',
          json: virtioDevice(machine, 'net', 'net0', {
            id: 'nic0',
            netdev: 'net0',
            mac: network.mac,
            // No PXE: firmware has no option ROM to load and run. Only the PCI device has one.
            ...(machine === 'q35' && { romfile: '' }),
          }),
        },
      ];
  }
}

function userNet(network: Extract<NetworkSpec, { mode: 'user' }>) {
  const hostfwd = network.forwards.map((forward) => ({ str: hostForward(forward) }));
  return { type: 'user', id: 'net0', ...(hostfwd.length > 0 && { hostfwd }) };
}

/** libslirp's grammar `proto:address:port-:port` has no quoting, so the parts are checked; 7.2 forwards IPv4 only. */
function hostForward({ protocol, hostAddress, hostPort, guestPort }: PortForward): string {
  if (!/^(\d{1,3}(\.\d{1,3}){3})?$/.test(hostAddress)) {
    throw new VmError(
      'InvalidArgument',
      `host address ${JSON.stringify(hostAddress)} of a port forward is not an IPv4 address; use one, or "" for all`,
    );
  }
  return `${protocol}:${hostAddress}:${hostPort}-:${guestPort}`;
}
