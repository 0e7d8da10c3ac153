import { VmError } from '../core/errors.ts';
import { REMEDY } from './image-remedy.ts';
import { walkQcow2Extensions } from './qcow2-extensions.ts';

/**
 * What a qcow2 header says, after every field was checked. Source: QEMU docs/interop/qcow2.txt; the limits are those
 * that QEMU's own driver enforces when it opens an image.
 */
export interface Qcow2Header {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  /** Bytes the guest sees: a multiple of 512, rounded down as QEMU does. */
  readonly virtualSize: number;
  readonly backing: Qcow2Backing | undefined;
}

/** The backing file as the header names it. Only our own overlays may have one, and it is never opened by this name. */
export interface Qcow2Backing {
  readonly file: string;
  readonly format: string | undefined;
}

export interface Qcow2Source {
  /** How messages call the file. */
  readonly name: string;
  /** Size of the file in bytes. */
  readonly fileBytes: number;
  /** `refused` for everything that is not an overlay of ours. */
  readonly backing: 'refused' | 'allowed';
}

/** Bytes from the start of the file that hold everything this parser reads. */
export const HEADER_BYTES = 64 * 1024;
export const QCOW2_MAGIC = 0x51_46_49_fb;
/** No disk of a guest is larger; a header that claims more is broken or hostile. */
export const MAX_VIRTUAL_SIZE = 64 * 2 ** 40;

const SECTOR = 512;
const HEADER_V2 = 72;
const HEADER_V3 = 104;
const MAX_L1_BYTES = 32 * 2 ** 20;
const MAX_REFCOUNT_TABLE_BYTES = 8 * 2 ** 20;
const MAX_SNAPSHOTS = 65_536;
const MAX_BACKING_NAME = 1023;
const FEATURE = { dirty: 1n, corrupt: 2n, dataFile: 4n, compression: 8n, extendedL2: 16n } as const;
const KNOWN_FEATURES = 31n;

/**
 * @param head the first `HEADER_BYTES` of the file, or all of a smaller one.
 * @throws VmError InvalidArgument: one sentence with the image, the field, its value and the remedy.
 */
export function parseQcow2Header(head: Buffer, source: Qcow2Source): Qcow2Header {
  const refuse = (what: string, remedy: string): never => {
    throw new VmError('InvalidArgument', `disk image ${source.name} is refused: ${what}; ${remedy}`);
  };
  if (head.length < HEADER_V2) {
    refuse(`it has ${source.fileBytes} bytes, which is no complete qcow2 header`, REMEDY.damaged);
  }
  if (head.readUInt32BE(0) !== QCOW2_MAGIC) refuse('its magic is not qcow2’s', REMEDY.damaged);
  const version = head.readUInt32BE(4);
  if (version !== 2 && version !== 3) refuse(`its qcow version is ${version}, not 2 or 3`, REMEDY.convert);
  if (version === 3 && head.length < HEADER_V3) refuse('its version 3 header is cut off', REMEDY.damaged);

  const clusterBits = head.readUInt32BE(20);
  if (clusterBits < 9 || clusterBits > 21) {
    refuse(`its cluster_bits is ${clusterBits}, outside 9 to 21`, REMEDY.damaged);
  }
  const layout: Layout = {
    head,
    clusterBits,
    clusterBytes: 2 ** clusterBits,
    fileBytes: source.fileBytes,
    refuse,
  };
  const features = version === 3 ? checkFeatures(layout) : 0n;
  checkEncryption(layout);
  const backingFile = readBacking(layout);
  if (backingFile !== undefined && source.backing === 'refused') refuseBacking(layout, backingFile);
  const virtualSize = checkTables(layout, features);

  const start = version === 3 ? checkHeaderLength(layout, features) : HEADER_V2;
  const nameAt = backingFile === undefined ? 0 : Number(head.readBigUInt64BE(8));
  const end = nameAt === 0 ? layout.clusterBytes : nameAt;
  const { backingFormat } = walkQcow2Extensions(head, start, end, refuse);
  const backing = backingFile === undefined ? undefined : { file: backingFile, format: backingFormat };
  return { version: version === 2 ? 2 : 3, clusterBits, virtualSize, backing };
}

interface Layout {
  readonly head: Buffer;
  readonly clusterBits: number;
  readonly clusterBytes: number;
  readonly fileBytes: number;
  readonly refuse: (what: string, remedy: string) => never;
}

function checkFeatures({ head, refuse }: Layout): bigint {
  const features = head.readBigUInt64BE(72);
  if ((features & FEATURE.dataFile) !== 0n) {
    refuse(
      'its incompatible_features name an external data file, which could be any file of the host',
      REMEDY.convert,
    );
  }
  if ((features & FEATURE.corrupt) !== 0n) {
    refuse('its incompatible_features say corrupt', 'repair it with "qemu-img check -r all"');
  }
  const unknown = features & ~KNOWN_FEATURES;
  if (unknown !== 0n) {
    refuse(`its incompatible_features have unknown bits 0x${unknown.toString(16)}`, REMEDY.convert);
  }
  return features;
}

function checkEncryption({ head, refuse }: Layout): void {
  const method = head.readUInt32BE(32);
  if (method === 0) return;
  const name = { 1: 'AES', 2: 'LUKS' }[method] ?? 'unknown';
  refuse(`its crypt_method is ${method} (${name}) and there is no secret for it`, REMEDY.decrypt);
}

function readBacking({ head, clusterBytes, refuse }: Layout): string | undefined {
  const offset = head.readBigUInt64BE(8);
  const length = head.readUInt32BE(16);
  if (offset === 0n && length === 0) return undefined;
  const end = offset + BigInt(length);
  if (
    offset < BigInt(HEADER_V2) ||
    length > MAX_BACKING_NAME ||
    end > BigInt(Math.min(clusterBytes, head.length))
  ) {
    refuse(
      `its backing file name (offset ${offset}, ${length} bytes) does not fit its header`,
      REMEDY.damaged,
    );
  }
  return head.toString('utf8', Number(offset), Number(end));
}

function refuseBacking({ refuse }: Layout, file: string): never {
  return refuse(
    `it has a backing file ${JSON.stringify(file.slice(0, 80))}, and an image has to be whole`,
    'flatten it with "qemu-img convert -O qcow2" where its backing file is',
  );
}

/** Sizes and offsets of the tables against each other and against the file. Returns the virtual size. */
function checkTables(
  { head, clusterBits, clusterBytes, fileBytes, refuse }: Layout,
  features: bigint,
): number {
  const size = head.readBigUInt64BE(24);
  if (size > BigInt(MAX_VIRTUAL_SIZE))
    refuse(`its virtual size is ${size} bytes, above 64 TiB`, REMEDY.damaged);
  const virtualSize = Math.floor(Number(size) / SECTOR) * SECTOR;
  if (virtualSize === 0) refuse(`its virtual size is ${size} bytes`, 'give it a disk with contents');

  const extended = (features & FEATURE.extendedL2) !== 0n;
  if (extended && clusterBits < 14) {
    refuse(`its cluster_bits is ${clusterBits}, too small for extended L2 entries`, REMEDY.damaged);
  }
  const entries = head.readUInt32BE(36);
  const covered = clusterBytes * (clusterBytes / (extended ? 16 : 8));
  const needed = Math.ceil(Number(size) / covered);
  if (entries * 8 > MAX_L1_BYTES)
    refuse(`its l1_size is ${entries}, above ${MAX_L1_BYTES / 8}`, REMEDY.damaged);
  if (entries < needed) {
    refuse(`its l1_size is ${entries}, but its virtual size needs ${needed}`, REMEDY.damaged);
  }

  const checkOffset = (field: string, offset: bigint, bytes: number): void => {
    if (offset % BigInt(clusterBytes) !== 0n) {
      refuse(`its ${field} is ${offset}, not a multiple of the cluster size ${clusterBytes}`, REMEDY.damaged);
    }
    if (offset + BigInt(bytes) > BigInt(fileBytes)) {
      refuse(`its ${field} is ${offset}, but the file ends at ${fileBytes} bytes`, REMEDY.damaged);
    }
    if (offset === 0n && bytes > 0)
      refuse(`its ${field} is 0, which is the header’s own place`, REMEDY.damaged);
  };
  checkOffset('l1_table_offset', head.readBigUInt64BE(40), entries * 8);
  const refcountBytes = head.readUInt32BE(56) * clusterBytes;
  if (refcountBytes === 0 || refcountBytes > MAX_REFCOUNT_TABLE_BYTES) {
    refuse(`its refcount_table_clusters is ${head.readUInt32BE(56)}`, REMEDY.damaged);
  }
  // A table at the very end may be shorter than its last cluster, so only its first entry has to be there.
  checkOffset('refcount_table_offset', head.readBigUInt64BE(48), 8);
  const snapshots = head.readUInt32BE(60);
  if (snapshots > MAX_SNAPSHOTS)
    refuse(`its nb_snapshots is ${snapshots}, above ${MAX_SNAPSHOTS}`, REMEDY.damaged);
  checkOffset('snapshots_offset', head.readBigUInt64BE(64), 40 * snapshots);
  return virtualSize;
}

function checkHeaderLength({ head, clusterBytes, refuse }: Layout, features: bigint): number {
  const refcountOrder = head.readUInt32BE(96);
  if (refcountOrder > 6) refuse(`its refcount_order is ${refcountOrder}, above 6`, REMEDY.damaged);
  const length = head.readUInt32BE(100);
  if (length < HEADER_V3 || length % 8 !== 0 || length > Math.min(clusterBytes, head.length)) {
    refuse(`its header_length is ${length}`, REMEDY.damaged);
  }
  const compression = length > HEADER_V3 ? head.readUInt8(104) : 0;
  if (compression > 1)
    refuse(`its compression_type is ${compression}, not zlib (0) or zstd (1)`, REMEDY.convert);
  if ((compression !== 0) !== ((features & FEATURE.compression) !== 0n)) {
    refuse(
      `its compression_type is ${compression}, but its incompatible_features say otherwise`,
      REMEDY.damaged,
    );
  }
  return length;
}
