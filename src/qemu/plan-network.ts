import { VmError } from '../core/errors.ts';
import type { NetworkSpec, PortForward, VmSpec } from '../core/vm-spec.ts';
import type { QemuOption } from './option.ts';
import { type FdNumber, nicRoles } from './plan-fds.ts';
import { pciAddress } from './pci-address.ts';
import type { QemuInput, TapNic } from './qemu-input.ts';
import type { JsonObject } from './qmp-codec.ts';
import { virtioDevice } from './virtio-device.ts';

/** The network cards and what they are plugged into. */
export function planNetwork({ spec, nics }: QemuInput, fd: FdNumber): QemuOption[] {
  const { network } = spec;
  switch (network.mode) {
    case 'none':
      return [];
    case 'user':
      return [
        { flag: '-netdev', json: userNet(network) },
        {
          flag: '-device',
          json: networkCard(spec, 'net0', { id: 'nic0', netdev: 'net0', mac: network.mac }),
        },
      ];
    case 'pod':
      return nics.flatMap((nic, index) => tapNic(spec, nic, index, fd));
  }
}

/** Where cards sit, by their order. */
export const NIC_SEATS = ['net0', 'net1', 'net2', 'net3', 'net4'] as const;

/**
 * A card on an open TAP. QEMU only asks a given descriptor whether it has the vnet header and goes without offloads where
 * it does not, so whoever opens it must say IFF_VNET_HDR. Two vectors per queue pair and two for configuration and
 * control (virtio 1.2, 5.1).
 */
function tapNic(spec: VmSpec, nic: TapNic, index: number, fd: FdNumber): QemuOption[] {
  const seat = NIC_SEATS[index];
  if (seat === undefined) {
    throw new VmError(
      'InvalidArgument',
      `the pod has more than ${NIC_SEATS.length} network interfaces; a VM takes that many at most`,
    );
  }
  const roles = nicRoles(nic, index);
  const numbers = (kind: string): string =>
    roles
      .filter((role) => role.includes(kind))
      .map(fd)
      .join(':');
  return [
    {
      flag: '-netdev',
      json: {
        type: 'tap',
        id: `net${index}`,
        fds: numbers('-tap'),
        vhost: nic.vhost,
        ...(nic.vhost && { vhostfds: numbers('-vhost') }),
      },
    },
    {
      flag: '-device',
      json: networkCard(
        spec,
        seat,
        { id: `nic${index}`, netdev: `net${index}`, mac: nic.mac },
        {
          host_mtu: nic.mtu,
          ...(nic.queues > 1 && { mq: true }),
          ...(nic.queues > 1 && spec.machine === 'q35' && { vectors: 2 * nic.queues + 2 }),
        },
      ),
    },
  ];
}

/** @param virtio properties that only this model has; the others learn their MTU by DHCP and have one queue. */
function networkCard(
  { machine, hardware: { nicModel } }: VmSpec,
  seat: (typeof NIC_SEATS)[number],
  common: { readonly id: string; readonly netdev: string; readonly mac: string },
  virtio: JsonObject = {},
): JsonObject {
  // No PXE: firmware has no option ROM to load and run. Only PCI devices have one.
  const rom = machine === 'q35' && { romfile: '' };
  return nicModel === 'virtio'
    ? virtioDevice(machine, 'net', seat, { ...common, ...virtio, ...rom })
    : { driver: nicModel, ...common, ...rom, ...pciAddress(seat) };
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
