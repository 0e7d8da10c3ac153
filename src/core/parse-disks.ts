import { describeSource } from './describe-disk.ts';
import type {
  BlockVolume,
  DiskAccess,
  DiskDevice,
  DiskSource,
  DiskSpec,
  VolumeBus,
  VolumeMount,
} from './disk-spec.ts';
import { VmError } from './errors.ts';
import type { DiskEntry, EntrySource } from './parse-disk-entries.ts';
import { ROOT_DEVICES } from './parse-root.ts';
import type { SharedDirectory } from './shared-directory.ts';
import { show, type SpecField } from './spec-field.ts';
import type { MachineKind } from './vm-spec.ts';
import { allBindMounts, bindMounts, describeVolumes, nameOf } from './volume-mounts.ts';

/** KubeVirt's name for the disk image in a volume with a file system. */
export const DISK_FILE = 'disk.img';

/** kubelet's directories for objects of the API. */
const API_OBJECT = /\/volumes\/kubernetes\.io~(configmap|secret|projected|downward-api)\//;

/** A block volume and what the container may do with it. */
interface Device {
  readonly volume: BlockVolume;
  readonly access: DiskAccess;
}

/**
 * All disks beside the root disk: first those that the annotation alone makes, in its order, then block volumes, then
 * mounts, each in the order of the OCI spec. An entry for a volume says how it is seen and moves it nowhere, so a disk that
 * is added at the end of its kind leaves all others in their places.
 * @throws VmError InvalidArgument
 */
export function parseDisks(
  entries: readonly DiskEntry[],
  spec: SpecField,
  machine: MachineKind,
  shared: readonly SharedDirectory[],
): readonly DiskSpec[] {
  const devices = blockVolumes(spec.at('linux'), entries);
  const secrets = entries.flatMap(({ from }) => (from.kind === 'rbd' ? [from.secret] : []));
  // What opens an image is not for the guest.
  const mounts = bindMounts(spec.at('mounts')).filter(
    ({ destination }) =>
      !secrets.includes(destination) && !shared.some(({ mount }) => mount.destination === destination),
  );
  const paths = [...devices.map(({ volume }) => volume.path), ...mounts.map((mount) => mount.destination)];
  for (const { from } of entries) {
    if (from.kind === 'volume' && !paths.includes(from.path)) throw noVolume(from.path, paths);
  }
  const entryAt = (path: string): DiskEntry | undefined => {
    const [entry, second] = entries.filter(({ from }) => from.kind === 'volume' && from.path === path);
    if (second === undefined) return entry;
    throw invalid(`the volume at ${show(path)} is given to two disks; remove one of them`);
  };
  const disks = [
    ...entries.flatMap((entry) => madeDisk(entry, spec.at('mounts'))),
    ...devices.map(({ volume, access }) => ofDevice(volume, access, entryAt(volume.path))),
    ...mounts.flatMap((mount) => ofMount(mount, entryAt(mount.destination))),
  ];
  // What may turn out to be no disk is looked at again when its volume was.
  expectDistinct(disks.filter(({ source }) => source.kind !== 'file' || source.asked));
  if (machine === 'microvm') {
    const asked = disks.find(({ source }) => source.kind !== 'file' || source.asked);
    if (asked === undefined) return [];
    throw invalid(
      `machine "microvm" has no place for the disk "${asked.name}" (${describeSource(asked.source)}); use machine "q35", or remove the disk`,
    );
  }
  return disks;
}

/** A disk that is no volume. */
function madeDisk(entry: DiskEntry, mounts: SpecField): DiskSpec[] {
  const { from } = entry;
  switch (from.kind) {
    case 'volume':
      return [];
    case 'empty':
    case 'host':
      return [disk(entry, from, undefined)];
    case 'rbd':
      return [disk(entry, { ...from, secret: secretOf(entry.name, from.secret, mounts) }, undefined)];
  }
}

function secretOf(name: string, path: string, mounts: SpecField): VolumeMount {
  const all = allBindMounts(mounts);
  const secret = all.find(({ destination }) => destination === path);
  if (secret !== undefined) return secret;
  const known = describeVolumes(all.map(({ destination }) => destination));
  throw invalid(
    `disk "${name}" has its key in a Secret at ${show(path)}, but no volume is mounted there; ${known}`,
  );
}

/**
 * Devices that somebody asked for one by one. A privileged container has all of the node's in its spec, and a rule that
 * allows them all; of those none is a volume unless the annotation names it.
 */
function blockVolumes(linux: SpecField, entries: readonly DiskEntry[]): Device[] {
  const rules = linux.at('resources').at('devices').items();
  return linux
    .at('devices')
    .items()
    .flatMap((device) => {
      const path = device.at('path').text() ?? '';
      if (device.at('type').text() !== 'b' || ROOT_DEVICES.includes(path)) return [];
      const number = (key: 'major' | 'minor'): number => {
        const value = device.at(key).integer(0);
        if (value === undefined) throw device.at(key).invalid('the number of a block device');
        return value;
      };
      const volume = { kind: 'device', path, major: number('major'), minor: number('minor') } as const;
      const rule = rules.findLast(
        (item) =>
          item.at('major').integer(-1) === volume.major && item.at('minor').integer(-1) === volume.minor,
      );
      const named = entries.some(({ from }) => from.kind === 'volume' && from.path === path);
      if (rule === undefined && !named) return [];
      const writable = rule === undefined || (rule.at('access').text() ?? 'rwm').includes('w');
      return [{ volume, access: writable ? 'rw' : 'ro' }];
    });
}

function ofDevice(volume: BlockVolume, access: DiskAccess, entry: DiskEntry | undefined): DiskSpec {
  if (entry === undefined) return automatic(volume, volume.path, access);
  if (entry.from.kind === 'volume' && (entry.from.file ?? entry.from.files) !== undefined) {
    throw invalid(
      `disk "${entry.name}" names files of the volume at ${show(volume.path)}, which is a block volume; remove file and files`,
    );
  }
  return disk(entry, volume, access);
}

/** ConfigMaps and the like become a disk by themselves; any other directory if there is a disk image in it. */
function ofMount(mount: VolumeMount, entry: DiskEntry | undefined): DiskSpec[] {
  const access = mount.readOnly ? 'ro' : 'rw';
  if (entry === undefined) {
    const name = nameOf(mount.destination);
    if (API_OBJECT.test(`${mount.source}/`))
      return [
        automatic({ kind: 'files', mount, format: 'vfat', label: labelOf(name) }, mount.destination, 'ro'),
      ];
    return [automatic({ kind: 'file', mount, file: DISK_FILE, asked: false }, mount.destination, access)];
  }
  return [disk(entry, mountSource(mount, entry, entry.from), access)];
}

function mountSource(mount: VolumeMount, entry: DiskEntry, from: EntrySource): DiskSource {
  const { file, files, label } = from.kind === 'volume' ? from : {};
  const asFiles = files !== undefined || (file === undefined && API_OBJECT.test(`${mount.source}/`));
  if (!asFiles) return { kind: 'file', mount, file: file ?? DISK_FILE, asked: true };
  const format = files ?? (entry.device === 'cdrom' ? 'iso' : 'vfat');
  return { kind: 'files', mount, format, label: label ?? labelOf(entry.name) };
}

function automatic(source: DiskSource, path: string, access: DiskAccess): DiskSpec {
  const name = nameOf(path);
  const rest = { boot: undefined, cache: 'auto', discard: true } as const;
  return { name, serial: name, source, device: 'disk', bus: 'virtio', access, ...rest };
}

/** @param given what the volume itself allows; undefined where nothing restrains it. */
function disk(entry: DiskEntry, source: DiskSource, given: DiskAccess | undefined): DiskSpec {
  const { name, device, boot, cache, discard } = entry;
  const bus = entry.bus ?? (device === 'cdrom' ? 'sata' : 'virtio');
  const neverWritten = whyNeverWritten(device, source);
  const fixed = neverWritten === undefined ? undefined : 'ro';
  if (entry.access === 'rw' && (fixed ?? given) === 'ro') {
    throw invalid(
      `disk "${name}" has readOnly false, but it is ${neverWritten ?? 'mounted read-only'}; leave readOnly out`,
    );
  }
  const access = fixed ?? (given === 'ro' ? 'ro' : (entry.access ?? 'rw'));
  expectFit(name, device, bus, access);
  return { name, serial: entry.serial ?? name, source, device, bus, access, boot, cache, discard };
}

/** What a disk is that nobody can write to, whatever the pod says. */
function whyNeverWritten(device: DiskEntry['device'], source: DiskSource): string | undefined {
  if (device === 'cdrom') return 'a cdrom';
  if (source.kind === 'files') return 'a copy of files';
  return source.kind === 'rbd' && source.snapshot !== undefined ? 'a snapshot' : undefined;
}

function expectFit(name: string, device: DiskDevice, bus: VolumeBus, access: DiskAccess): void {
  if (device === 'cdrom' && (bus === 'virtio' || bus === 'usb'))
    throw invalid(`disk "${name}" is a cdrom on the bus "${bus}", which has none; use "sata" or "scsi"`);
  if (device === 'disk' && bus === 'sata' && access === 'ro')
    throw invalid(
      `disk "${name}" is read-only, which disks on the bus "sata" cannot be; use another bus, or device "cdrom"`,
    );
}

/** FAT knows capitals best. */
function labelOf(name: string): string {
  return name.slice(0, 11).replace(/-+$/, '').toUpperCase();
}

/**
 * No two disks may be called the same.
 * @throws VmError InvalidArgument
 */
export function expectDistinct(disks: readonly DiskSpec[]): void {
  for (const key of ['name', 'serial', 'boot'] as const) {
    const seen = new Map<string | number, DiskSpec>();
    for (const one of disks) {
      const value = one[key];
      if (value === undefined) continue;
      const other = seen.get(value);
      if (other !== undefined) {
        throw invalid(
          `two disks have the ${key === 'boot' ? 'boot order' : key} ${show(value)} (${describeSource(other.source)}, ${describeSource(one.source)}); tell them apart in vmshim.io/disks`,
        );
      }
      seen.set(value, one);
    }
  }
}

function noVolume(path: string, paths: readonly string[]): VmError {
  return invalid(
    `annotation vmshim.io/disks names the volume ${show(path)}, which is not there; ${describeVolumes(paths)}`,
  );
}

function invalid(message: string): VmError {
  return new VmError('InvalidArgument', message);
}
