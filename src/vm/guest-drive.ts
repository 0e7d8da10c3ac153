import type { VmSpec } from '../core/vm-spec.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import { PCI_SLOTS, type Seat } from '../qemu/pci-address.ts';
import { NIC_SEATS } from '../qemu/plan-network.ts';
import { driveImage } from '../storage/guest-data/drive-image.ts';
import type { GuestDevice, GuestNic } from '../storage/guest-data/guest-data.ts';
import { mergeGuestData } from '../storage/guest-data/merge-guest-data.ts';
import { randomSeed } from '../storage/guest-data/random-seed.ts';
import { readVolume } from '../storage/guest-data/read-volume.ts';
import { parseVolumeData } from '../storage/guest-data/volume-data.ts';
import { writeImage } from '../storage/guest-data/write-image.ts';
import { readNodeKey } from '../storage/node-key.ts';
import type { NicPlan } from './nic-plan.ts';

/**
 * Makes the drive that the guest configures itself from, in the VM's volatile directory, so that it goes with the VM and its
 * secrets with the node's memory. It is made at every start of the container, with what volumes and network say then; its
 * UUID is the VM's, so a guest that was set up by it does not set itself up again.
 * @returns open for reading; undefined for a VM without.
 * @throws VmError InvalidArgument where pod or volumes say what no drive can carry.
 */
export async function makeGuestDrive(
  host: Host,
  spec: VmSpec,
  place: { readonly runDir: string; readonly dataDir: string; readonly hasRootDisk: boolean },
  nics: readonly NicPlan[],
): Promise<OwnedFd | undefined> {
  const { guestData } = spec;
  const { kind } = guestData;
  if (kind === 'none') return undefined;
  const volumes = parseVolumeData(guestData.volumes.flatMap((volume) => readVolume(host, volume)));
  const cards = guestNics(spec, nics);
  const data = mergeGuestData({ ...guestData, kind }, volumes, {
    uuid: spec.uuid,
    name: spec.name,
    randomSeed: randomSeed(await readNodeKey(host, place.dataDir), spec.uuid),
    nics: cards,
    devices: guestDevices(spec, place.hasRootDisk, cards),
  });
  return writeImage(host, `${place.runDir}/guest-data.img`, driveImage(data));
}

function guestNics({ network }: VmSpec, plans: readonly NicPlan[]): readonly GuestNic[] {
  switch (network.mode) {
    case 'none':
      return [];
    case 'user':
      return [
        {
          ifName: 'eth0',
          mac: network.mac,
          mtu: undefined,
          addresses: [],
          routes: [],
          dns: { nameservers: [], search: [] },
        },
      ];
    case 'pod':
      return plans.map(({ guest }) => guest);
  }
}

/** microvm's devices have no place that a guest could look for. */
function guestDevices({ machine }: VmSpec, hasRootDisk: boolean, nics: readonly GuestNic[]): GuestDevice[] {
  if (machine !== 'q35') return [];
  const disk: GuestDevice[] = hasRootDisk
    ? [{ type: 'disk', address: pciName('rootDisk'), serial: 'root' }]
    : [];
  const cards = nics.flatMap(({ mac }, index): GuestDevice[] => {
    const seat = NIC_SEATS[index];
    return seat === undefined ? [] : [{ type: 'nic', address: pciName(seat), mac }];
  });
  return [...cards, ...disk];
}

/** As Linux writes an address: domain, bus, slot, function. */
function pciName(seat: Seat): string {
  return `0000:00:${PCI_SLOTS[seat].toString(16).padStart(2, '0')}.0`;
}
