import { VmError } from '../../core/errors.ts';
import { ENTRY_BYTES, longNameEntries, nameEntryCount, shortNames } from './fat-names.ts';
import type { TreeDirectory, TreeEntry } from './file-tree.ts';
import type { ImagePart, SparseImage } from './sparse-image.ts';

const SECTOR = 512;
const RESERVED_SECTORS = 1;
const FATS = 2;
const ROOT_ENTRIES = 512;
const MEDIA = 0xf8;
/** FAT's type follows from the number of clusters alone; these are FAT16's bounds, with distance for careless readers. */
const MIN_CLUSTERS = 4_085 + 16;
const MAX_CLUSTERS = 65_525 - 16;
const MAX_SECTORS_PER_CLUSTER = 64;
const END_OF_CHAIN = 0xffff;
const MIB = 1 << 20;
/** What Nova makes, and Windows is used to. */
const USUAL_SIZE = 64 * MIB;
const ATTRIBUTE_READ_ONLY = 0x01;
const ATTRIBUTE_VOLUME = 0x08;
const ATTRIBUTE_DIRECTORY = 0x10;
/** Offsets in a directory entry. */
const FIRST_CLUSTER = 26;
const FILE_SIZE = 28;
/** 1 January 1980, midnight: FAT's first day, so that equal files make equal images. */
const EPOCH_DATE = (1 << 5) | 1;

export interface FatOptions {
  /** At most 11 characters; stands in the boot sector and in the root directory, as given. */
  readonly label: string;
  /** 32 bits that tell volumes apart. */
  readonly serial: number;
}

/**
 * A FAT16 file system over a whole disk, without partition table (a "superfloppy"): 64 MiB, more where the files need it.
 * FAT16 alone, since its range of sizes, 64 MiB to 2 GiB, is that of drives for guest data. Written here because running
 * mkfs.vfat and mcopy costs more than the rest of a VM's storage together, and would put secrets into a directory first.
 * Source: Microsoft's "FAT: General Overview of On-Disk Format", 1.03.
 * @throws VmError InvalidArgument for more than FAT16 holds.
 */
export function fatImage(root: TreeDirectory, { label, serial }: FatOptions): SparseImage {
  for (let sectorsPerCluster = 4; ; sectorsPerCluster *= 2) {
    const layout = planLayout(root, sectorsPerCluster);
    if (layout !== undefined) return build(root, layout, { label, serial });
    if (sectorsPerCluster >= MAX_SECTORS_PER_CLUSTER) {
      throw new VmError(
        'InvalidArgument',
        'the guest’s data is more than a drive of 2 GiB holds; give it less',
      );
    }
  }
}

interface Layout {
  readonly sectorsPerCluster: number;
  readonly totalSectors: number;
  readonly fatSectors: number;
}

/** Undefined where clusters of this size are too many. */
function planLayout(root: TreeDirectory, sectorsPerCluster: number): Layout | undefined {
  const clusterBytes = sectorsPerCluster * SECTOR;
  const used = clustersBelow(root, clusterBytes);
  // Tables, root directory and the boot sector are less than a MiB.
  const size = Math.max(USUAL_SIZE, Math.ceil((used * clusterBytes) / MIB + 2) * MIB);
  const totalSectors = size / SECTOR;
  const rootSectors = (ROOT_ENTRIES * ENTRY_BYTES) / SECTOR;
  let fatSectors = 1;
  for (;;) {
    const dataSectors = totalSectors - RESERVED_SECTORS - FATS * fatSectors - rootSectors;
    const clusters = Math.floor(dataSectors / sectorsPerCluster);
    if (clusters > MAX_CLUSTERS || clusters < MIN_CLUSTERS) return undefined;
    const needed = Math.ceil(((clusters + 2) * 2) / SECTOR);
    if (needed <= fatSectors) return { sectorsPerCluster, totalSectors, fatSectors };
    fatSectors = needed;
  }
}

function clustersBelow(directory: TreeDirectory, clusterBytes: number): number {
  return directory.entries.reduce(
    (sum, entry) =>
      sum +
      (entry.kind === 'file'
        ? Math.ceil(entry.content.length / clusterBytes)
        : Math.ceil(directoryBytes(entry) / clusterBytes) + clustersBelow(entry, clusterBytes)),
    0,
  );
}

/** With `.` and `..`, which the root has not. */
function directoryBytes(directory: TreeDirectory): number {
  return directory.entries.reduce((sum, { name }) => sum + nameEntryCount(name), 2) * ENTRY_BYTES;
}

function build(root: TreeDirectory, layout: Layout, options: FatOptions): SparseImage {
  const clusterBytes = layout.sectorsPerCluster * SECTOR;
  const rootAt = (RESERVED_SECTORS + FATS * layout.fatSectors) * SECTOR;
  const dataAt = rootAt + ROOT_ENTRIES * ENTRY_BYTES;
  const chains: number[] = [MEDIA | 0xff00, END_OF_CHAIN];
  const parts: ImagePart[] = [];
  const templates = new DirectoryTemplates();

  /** Everything is one piece: clusters are taken in order. */
  const allocate = (length: number): number => {
    const count = Math.ceil(length / clusterBytes);
    const first = chains.length;
    for (let i = 1; i <= count; i++) chains.push(i === count ? END_OF_CHAIN : first + i);
    return count === 0 ? 0 : first;
  };
  const put = (cluster: number, bytes: Uint8Array): void => {
    if (bytes.length > 0) parts.push({ offset: dataAt + (cluster - 2) * clusterBytes, bytes });
  };
  const placeChildren = (directory: TreeDirectory, own: number): Buffer =>
    templates.fill(directory, (entry) => {
      if (entry.kind === 'file') {
        const cluster = allocate(entry.content.length);
        put(cluster, entry.content);
        return cluster;
      }
      const cluster = allocate(directoryBytes(entry));
      const children = placeChildren(entry, cluster);
      put(cluster, Buffer.concat([dotEntry('.', cluster), dotEntry('..', own), children]));
      return cluster;
    });

  // A directory below the root names cluster 0 as its parent.
  const rootEntries = Buffer.concat([volumeEntry(options.label), placeChildren(root, 0)]);
  if (rootEntries.length > ROOT_ENTRIES * ENTRY_BYTES) {
    throw new VmError(
      'InvalidArgument',
      'the guest’s drive has more files in its root directory than FAT allows; give fewer',
    );
  }
  // Little-endian, as every machine is that this runs on.
  const table = new Uint8Array(Uint16Array.from(chains).buffer);
  const fats = Array.from({ length: FATS }, (_, i) => ({
    offset: (RESERVED_SECTORS + i * layout.fatSectors) * SECTOR,
    bytes: table,
  }));
  return {
    size: layout.totalSectors * SECTOR,
    parts: [
      { offset: 0, bytes: bootSector(layout, options) },
      ...fats,
      { offset: rootAt, bytes: rootEntries },
      ...parts,
    ],
  };
}

/** Entries of a directory, complete but for where each leads and how large it is. */
interface DirectoryTemplate {
  readonly bytes: Buffer;
  /** Where each entry's short one stands. */
  readonly places: readonly number[];
}

/** The directories of a config drive's versions have the same names, and names are most of the work. */
class DirectoryTemplates {
  readonly #known = new Map<string, DirectoryTemplate>();

  /** @param place makes room for an entry and gives its first cluster. */
  fill({ entries }: TreeDirectory, place: (entry: TreeEntry) => number): Buffer {
    const key = entries.map(({ kind, name }) => (kind === 'file' ? name : `${name}/`)).join('//');
    let template = this.#known.get(key);
    if (template === undefined) this.#known.set(key, (template = directoryTemplate(entries)));
    const bytes = Buffer.from(template.bytes);
    entries.forEach((entry, i) => {
      const at = template.places[i] ?? 0;
      bytes.writeUInt16LE(place(entry), at + FIRST_CLUSTER);
      if (entry.kind === 'file') bytes.writeUInt32LE(entry.content.length, at + FILE_SIZE);
    });
    return bytes;
  }
}

function directoryTemplate(entries: readonly TreeEntry[]): DirectoryTemplate {
  const names = shortNames(entries.map(({ name }) => name));
  const pieces: Buffer[] = [];
  const places: number[] = [];
  let at = 0;
  entries.forEach(({ kind, name }, i) => {
    const short = names[i] ?? '';
    const long = longNameEntries(name, short);
    pieces.push(long, directoryEntry(short, kind === 'file' ? ATTRIBUTE_READ_ONLY : ATTRIBUTE_DIRECTORY, 0));
    places.push(at + long.length);
    at += long.length + ENTRY_BYTES;
  });
  return { bytes: Buffer.concat(pieces), places };
}

function directoryEntry(name: string, attribute: number, cluster: number): Buffer {
  const entry = Buffer.alloc(ENTRY_BYTES);
  entry.write(name.padEnd(11), 0, 'latin1');
  entry[11] = attribute;
  for (const date of [16, 18, 24]) entry.writeUInt16LE(EPOCH_DATE, date);
  entry.writeUInt16LE(cluster, FIRST_CLUSTER);
  return entry;
}

function dotEntry(name: '.' | '..', cluster: number): Buffer {
  return directoryEntry(name, ATTRIBUTE_DIRECTORY, cluster);
}

function volumeEntry(label: string): Buffer {
  return directoryEntry(label, ATTRIBUTE_VOLUME, 0);
}

function bootSector({ sectorsPerCluster, totalSectors, fatSectors }: Layout, options: FatOptions): Buffer {
  const sector = Buffer.alloc(SECTOR);
  // A jump over the parameters is what readers know a FAT boot sector by.
  sector.set([0xeb, 0x3c, 0x90], 0);
  sector.write('VMSHIM  ', 3, 'latin1');
  sector.writeUInt16LE(SECTOR, 11);
  sector[13] = sectorsPerCluster;
  sector.writeUInt16LE(RESERVED_SECTORS, 14);
  sector[16] = FATS;
  sector.writeUInt16LE(ROOT_ENTRIES, 17);
  const small = totalSectors < 0x1_00_00;
  sector.writeUInt16LE(small ? totalSectors : 0, 19);
  sector[21] = MEDIA;
  sector.writeUInt16LE(fatSectors, 22);
  // Sectors per track and heads; nothing has used them for decades, but zero is refused.
  sector.writeUInt16LE(63, 24);
  sector.writeUInt16LE(255, 26);
  sector.writeUInt32LE(small ? 0 : totalSectors, 32);
  sector[36] = 0x80;
  sector[38] = 0x29;
  sector.writeUInt32LE(options.serial >>> 0, 39);
  sector.write(options.label.padEnd(11), 43, 'latin1');
  sector.write('FAT16   ', 54, 'latin1');
  // INT 18h hands a boot back to the firmware; should it return, halt for good.
  sector.set([0xcd, 0x18, 0xf4, 0xeb, 0xfd], 62);
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}
