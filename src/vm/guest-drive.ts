import type { VmSpec } from '../core/vm-spec.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import { indexOnBus, rootDiskPlace, seatPlace, volumePlace } from '../qemu/device-place.ts';
import { NIC_SEATS } from '../qemu/plan-network.ts';
import type { Volume } from '../qemu/qemu-input.ts';
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
  place: {
    readonly runDir: string;
    readonly dataDir: string;
    readonly hasRootDisk: boolean;
    readonly volumes: readonly Volume[];
  },
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
    devices: guestDevices(spec, place, cards),
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

/** What a guest may look for by place or tag. microvm's devices have no place that it could look at. */
function guestDevices(
  spec: VmSpec,
  { hasRootDisk, volumes }: { readonly hasRootDisk: boolean; readonly volumes: readonly Volume[] },
  nics: readonly GuestNic[],
): GuestDevice[] {
  if (spec.machine !== 'q35') return [];
  const cards = nics.flatMap(({ mac }, index): GuestDevice[] => {
    const seat = NIC_SEATS[index];
    return seat === undefined ? [] : [{ type: 'nic', ...seatPlace(seat), bus: 'pci', mac }];
  });
  const root: GuestDevice[] = hasRootDisk
    ? [{ type: 'disk', ...rootDiskPlace(spec), serial: 'root', tags: [] }]
    : [];
  const disks = volumes.map((volume): GuestDevice => {
    const place = volumePlace(volume, indexOnBus(volumes, volume));
    return { type: 'disk', ...place, serial: volume.serial, tags: [volume.name] };
  });
  return [...cards, ...root, ...disks];
}
